//! Tokens: made, written down once, taken apart and compared.
//!
//! A token is `maar_ROLE_ID_SECRET`. The id finds it, the secret is 256 random bits, and the database has only a
//! digest.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::ServeError;
use super::state::AppState;
use crate::home::Home;
use crate::store::service::{Change, Role, TokenRecord, Via};
use crate::store::{Store, StoreError};

/// The longest name of a token, in bytes.
const LONGEST_NAME: usize = 64;

/// Why a token can't be made.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum TokenError {
    #[error("the kernel gives no random numbers, so that no token can be made")]
    Random,
    #[error("`{}` can't be the name of a token: use ASCII letters, digits, `-`, `_` and `.`, {LONGEST_NAME} at most", .0.escape_debug())]
    Name(String),
    #[error("a token is named `{0}` already; `maar token revoke {0}` ends it")]
    Taken(String),
    #[error("failed to write {}: {source}", .path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A new token, to be shown once.
pub struct Minted {
    /// The token.
    pub text: String,
    record: TokenRecord,
}

/// Makes a token. It counts once the database has it.
///
/// # Errors
/// A name that isn't allowed, or a kernel without random numbers.
pub fn mint(role: Role, name: &str, owner: &str, expires: Option<SystemTime>) -> Result<Minted, TokenError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(allowed) {
        return Err(TokenError::Name(name.chars().take(80).collect()));
    }
    let mut random = [0_u8; 38];
    let generator = rustls::crypto::ring::default_provider().secure_random;
    generator.fill(&mut random).map_err(|_| TokenError::Random)?;
    let (id, secret) = random.split_at(6);
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = format!("maar_{role}_{id}_{}", URL_SAFE_NO_PAD.encode(secret));
    let record = TokenRecord {
        id,
        name: name.to_owned(),
        hash: digest(&text),
        role,
        owner: owner.to_owned(),
        created: SystemTime::now(),
        expires,
        used: None,
    };
    Ok(Minted { text, record })
}

impl Minted {
    /// Puts the token into the database, and returns its text.
    ///
    /// # Errors
    /// [`TokenError::Taken`], if another token has its name.
    pub fn keep(self, store: &mut Store, who: &str, via: Via) -> Result<String, TokenError> {
        let Self { text, record } = self;
        let what = format!("token {}: create with role {}", record.name, record.role);
        match store.add_token(&record, &Change::new(who, via, what))? {
            true => Ok(text),
            false => Err(TokenError::Taken(record.name)),
        }
    }
}

/// The token of the database that a request presents, if it is one.
pub fn check(store: &mut Store, presented: &str) -> Result<Option<TokenRecord>, StoreError> {
    let Some(id) = id_of(presented) else { return Ok(None) };
    let Some(token) = store.token(id)? else { return Ok(None) };
    let is_same: bool = token.hash[..].ct_eq(&digest(presented)[..]).into();
    if !is_same || token.expires.is_some_and(|expires| expires <= SystemTime::now()) {
        return Ok(None);
    }
    store.touch_token(&token)?;
    Ok(Some(token))
}

/// The id in a token's text.
fn id_of(text: &str) -> Option<&str> {
    let mut parts = text.splitn(4, '_');
    let ours = parts.next()? == "maar" && parts.next()?.parse::<Role>().is_ok();
    parts.next().filter(|id| ours && id.len() == 12 && text.len() <= 128)
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// The file with the first token.
pub fn first_file(home: &Home) -> PathBuf {
    home.dir().join("token")
}

/// Makes an administrator's token if none exists, and returns the file that has it.
pub(super) fn ensure_first(state: &AppState) -> Result<Option<PathBuf>, ServeError> {
    let path = first_file(state.home());
    state.database().now(|store| {
        if store.tokens()?.iter().any(|token| token.role == Role::Admin) {
            return Ok(None);
        }
        let minted = mint(Role::Admin, "admin", "admin", None)?;
        let write = |source| TokenError::Write { path: path.clone(), source };
        // An existing file must not get a token, in any mode.
        let _ = std::fs::remove_file(&path);
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path).map_err(write)?;
        writeln!(file, "{}", minted.text).and_then(|()| file.sync_all()).map_err(write)?;
        minted.keep(store, "server", Via::Server)?;
        Ok(Some(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_and_any_other_text_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("maar.db")).unwrap();
        let text = mint(Role::Run, "bors", "bors", None).unwrap().keep(&mut store, "me", Via::Cli).unwrap();
        assert!(text.starts_with("maar_run_") && text.len() == "maar_run_".len() + 12 + 1 + 43, "{text}");
        let found = check(&mut store, &text).unwrap().unwrap();
        assert_eq!((found.name.as_str(), found.role), ("bors", Role::Run));
        let swapped = text.replacen("_run_", "_admin_", 1);
        let shorter = &text[..text.len() - 1];
        for other in [swapped.as_str(), shorter, "", "maar", "maar_run_", "maar_run_0123456789ab_x", &"x".repeat(9999)]
        {
            assert_eq!(check(&mut store, other).unwrap(), None, "{other}");
        }
        assert!(matches!(
            mint(Role::Read, "bors", "x", None).unwrap().keep(&mut store, "me", Via::Cli),
            Err(TokenError::Taken(name)) if name == "bors"
        ));
        assert!(store.revoke_token("bors", &Change::new("me", Via::Cli, "revoke")).unwrap());
        assert_eq!(check(&mut store, &text).unwrap(), None);
        // Its name is free again.
        mint(Role::Read, "bors", "x", None).unwrap().keep(&mut store, "me", Via::Cli).unwrap();
    }

    #[test]
    fn a_token_ends_when_it_expires() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("maar.db")).unwrap();
        let past = SystemTime::now() - std::time::Duration::from_secs(1);
        let text = mint(Role::Read, "old", "old", Some(past)).unwrap().keep(&mut store, "me", Via::Cli).unwrap();
        assert_eq!(check(&mut store, &text).unwrap(), None);
    }

    #[test]
    fn the_database_has_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("maar.db");
        let mut store = Store::open(&path).unwrap();
        let text = mint(Role::Admin, "a", "a", None).unwrap().keep(&mut store, "me", Via::Cli).unwrap();
        drop(store);
        let secret = text.rsplit_once(&text[..24]).map_or(text.as_str(), |(_, rest)| rest);
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
        }
    }

    #[test]
    fn a_name_can_not_hold_anything_that_a_terminal_obeys() {
        for name in ["", "a b", "a/b", "\u{1b}[2J", "é", &"a".repeat(65)] {
            assert!(matches!(mint(Role::Read, name, "x", None), Err(TokenError::Name(_))), "{name:?}");
        }
    }
}
