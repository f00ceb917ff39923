//! One crate of a plan, and the results that its steps have: read crate by crate, for the plan of a whole registry doesn't fit
//! into memory.

use std::collections::{HashMap, HashSet};

use rusqlite::{OptionalExtension, params};

use crate::outcome::Outcome;
use crate::plan::{Attempt, Attempts, CratePlan, Fingerprint, Step};
use crate::store::read::Finished;
use crate::store::{Store, StoreError};

impl Store {
    /// The plan of one crate.
    pub fn crate_plan(&self, experiment: u32, position: u32) -> Result<Option<CratePlan>, StoreError> {
        let doing = "read the plan of a crate";
        let selected: Option<String> = self
            .connection
            .prepare_cached("SELECT selected FROM crates WHERE experiment = ? AND position = ?")
            .and_then(|mut statement| statement.query_row([experiment, position], |row| row.get(0)).optional())
            .map_err(self.sql(doing))?;
        let Some(selected) = selected else { return Ok(None) };
        let krate = crate::store::read::parse(&self.path, &selected, "selected crate")?;
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT op, toolchain, attempt, fingerprint FROM steps
                 WHERE experiment = ? AND crate = ? ORDER BY position",
            )
            .map_err(self.sql(doing))?;
        let mut rows = statement.query([experiment, position]).map_err(self.sql(doing))?;
        let mut steps = Vec::new();
        while let Some(row) = rows.next().map_err(self.sql(doing))? {
            steps.push(Step {
                op: self.decode(row, 0, "op")?,
                toolchain: row.get::<_, Option<u32>>(1).map_err(self.sql(doing))?.map(|toolchain| toolchain as usize),
                attempt: row.get(2).map_err(self.sql(doing))?,
                fingerprint: self.fingerprint(row, 3)?,
            });
        }
        Ok(Some(CratePlan { krate, steps }))
    }

    /// The results that the steps of one crate have: the outcomes that count, and all attempts.
    #[expect(clippy::type_complexity, reason = "two maps, each taken at once by its user")]
    pub fn earlier_results(
        &self,
        experiment: u32,
        plan: &CratePlan,
    ) -> Result<(HashMap<Fingerprint, Outcome>, HashMap<Fingerprint, Attempts>), StoreError> {
        let doing = "read the results of a crate";
        let (mut finished, mut attempts) = (Finished::default(), HashMap::new());
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT attempt, outcome, tests, tests_bytes, partial FROM results
                 WHERE experiment = ? AND fingerprint = ? ORDER BY attempt",
            )
            .map_err(self.sql(doing))?;
        let mut seen = HashSet::new();
        for step in plan.steps.iter().filter(|step| seen.insert(step.fingerprint)) {
            let mut rows =
                statement.query(params![experiment, step.fingerprint.to_string()]).map_err(self.sql(doing))?;
            let mut of_step = Attempts::new();
            while let Some(row) = rows.next().map_err(self.sql(doing))? {
                let outcome: Outcome = self.decode(row, 1, "outcome")?;
                let is_partial: bool = row.get(4).map_err(self.sql(doing))?;
                if !is_partial {
                    finished.add(step.fingerprint, outcome.clone());
                }
                let number = row.get(0).map_err(self.sql(doing))?;
                of_step.push(Attempt { number, outcome, tests: self.tests(row, 2)? });
            }
            if !of_step.is_empty() {
                attempts.insert(step.fingerprint, of_step);
            }
        }
        Ok((finished.outcomes, attempts))
    }
}
