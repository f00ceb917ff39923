//! What ops took, over all experiments.

use std::time::Duration;

use bytesize::ByteSize;

use super::{Store, StoreError};
use crate::krate::CrateName;
use crate::schedule::Recorded;

impl Store {
    /// The mean time of every op of the wanted crates, over all experiments and versions, and its memory peak.
    pub fn costs(&self, wanted: impl Fn(&CrateName) -> bool) -> Result<Vec<Recorded>, StoreError> {
        let doing = "read what ops took";
        let mut statement = self
            .connection
            .prepare("SELECT crate, op, CAST(avg(wall) AS INTEGER), max(peak_memory) FROM results GROUP BY crate, op")
            .map_err(self.sql(doing))?;
        let mut rows = statement.query([]).map_err(self.sql(doing))?;
        let mut costs = Vec::new();
        while let Some(row) = rows.next().map_err(self.sql(doing))? {
            let text = |column| row.get::<_, String>(column).map_err(self.sql(doing));
            let krate = text(0)?.parse().map_err(StoreError::unreadable(&self.path, "name of a crate"))?;
            if !wanted(&krate) {
                continue;
            }
            let peak = row.get::<_, Option<i64>>(3).map_err(self.sql(doing))?;
            costs.push(Recorded {
                krate,
                op: text(1)?.parse().map_err(StoreError::unreadable(&self.path, "name of an op"))?,
                wall: Duration::from_micros(super::read::count(row, 2).map_err(self.sql(doing))?),
                peak: peak.map(|bytes| ByteSize(bytes.cast_unsigned())),
            });
        }
        Ok(costs)
    }
}
