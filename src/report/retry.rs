//! The crates to run again, as a list for `-c list:FILE`.
//!
//! A line has the exact version, the lockfile where there is one, and why as a comment.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::ReportError;
use crate::compare::Retry;
use crate::krate::Origin;
use crate::printable::one_line;

/// Finds the lockfile of a crate; none if it has none.
pub type Lockfiles<'a> = dyn Fn(&Retry<'_>) -> Result<Option<Vec<u8>>, ReportError> + 'a;

/// Writes the list. Lockfiles go to `folder`, made if one is needed; without a folder, the list has none.
pub fn write(
    retries: &[Retry<'_>],
    lockfiles: &Lockfiles<'_>,
    folder: Option<&Path>,
    out: &mut dyn Write,
) -> Result<(), ReportError> {
    writeln!(out, "# {} to run again", crate::printable::crates(retries.len()))?;
    for retry in retries {
        let why = one_line(&format!("{}: {}", retry.verdict, retry.reason.unwrap_or_default()));
        match &retry.krate.origin {
            Origin::Path { dir, .. } => writeln!(out, "path:{} # {why}", dir.display())?,
            Origin::Registry { .. } => {
                let lockfile = match folder {
                    Some(folder) => keep(retry, lockfiles, folder)?,
                    None => None,
                };
                let lockfile = lockfile.map(|path| format!(" lockfile:{}", path.display())).unwrap_or_default();
                writeln!(out, "{}{lockfile} # {why}", retry.krate.id)?;
            }
            Origin::Missing(_) | Origin::Unusable(_) | Origin::Skipped { .. } | Origin::Unavailable(_) => {
                writeln!(out, "{} # {why}", retry.krate.id)?;
            }
        }
    }
    Ok(())
}

/// Writes a lockfile, and gives its path.
fn keep(retry: &Retry<'_>, lockfiles: &Lockfiles<'_>, folder: &Path) -> Result<Option<PathBuf>, ReportError> {
    let Some(lockfile) = lockfiles(retry)? else { return Ok(None) };
    let path = folder.join(format!("{}.lock", retry.krate.id));
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&path, lockfile))
        .map_err(|source| ReportError::File { path: path.clone(), source })?;
    // A list takes paths from its own folder, beside which this one is.
    let relative = folder.file_name().map(|name| Path::new(name).join(path.file_name().unwrap_or_default()));
    Ok(Some(relative.unwrap_or(path)))
}
