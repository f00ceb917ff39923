//! `maar token`: makes, lists and revokes the tokens of a home's server, whether or not that is running.

use std::io::Write;
use std::time::SystemTime;

use super::args::{self, TokenCommand};
use super::exit::{Exit, Misuse};
use crate::home::Home;
use crate::nearest::nearest;
use crate::serve::token::mint;
use crate::store::Store;
use crate::store::service::{Change, TokenRecord, Via};

/// Runs `maar token create`, `list` or `revoke`.
pub(super) fn run(command: &TokenCommand, out: &mut dyn Write) -> anyhow::Result<Exit> {
    match command {
        TokenCommand::Create(args) => {
            let expires = args.expires.map(|after| SystemTime::now() + after);
            let minted = mint(args.role, &args.name, args.owner.as_deref().unwrap_or(&args.name), expires)?;
            let text = minted.keep(&mut open(&args.home)?, &user(), Via::Cli)?;
            writeln!(out, "{text}")?;
        }
        TokenCommand::List(args) => list(&open(&args.home)?.tokens()?, out)?,
        TokenCommand::Revoke(args) => {
            let mut store = open(&args.home)?;
            let change = Change::new(user(), Via::Cli, format!("token {}: revoke", args.name));
            if !store.revoke_token(&args.name, &change)? {
                return Err(unknown(&args.name, &store.tokens()?).into());
            }
        }
    }
    Ok(Exit::Fine)
}

fn open(home: &args::Home) -> anyhow::Result<Store> {
    Ok(Store::open(&Home::open(home.folder.clone())?.database())?)
}

fn list(tokens: &[TokenRecord], out: &mut dyn Write) -> std::io::Result<()> {
    let width = tokens.iter().map(|token| token.name.len()).max().unwrap_or(0).max("NAME".len());
    writeln!(out, "{:width$}  {:5}  {:20}  {:20}  LAST USED", "NAME", "ROLE", "CREATED", "EXPIRES")?;
    let shown = |time: Option<SystemTime>| {
        time.map_or_else(|| "never".to_owned(), |time| humantime::format_rfc3339_seconds(time).to_string())
    };
    for TokenRecord { name, role, created, expires, used, .. } in tokens {
        let [created, expires, used] = [Some(*created), *expires, *used].map(shown);
        writeln!(out, "{name:width$}  {role:5}  {created:20}  {expires:20}  {used}")?;
    }
    Ok(())
}

fn unknown(name: &str, tokens: &[TokenRecord]) -> Misuse {
    let hint = match nearest(name, tokens.iter().map(|token| token.name.as_str())) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => "`maar token list` lists them".to_owned(),
    };
    Misuse(format!("no token is named `{}`; {hint}", name.escape_debug()))
}

/// Who changes something, for the audit.
fn user() -> String {
    nix::unistd::User::from_uid(nix::unistd::getuid())
        .ok()
        .flatten()
        .map_or_else(|| nix::unistd::getuid().to_string(), |user| user.name)
}
