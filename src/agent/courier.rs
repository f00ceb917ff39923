//! Sends the reports of the outbox, the oldest first, until the server has decided about each.

use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use tokio::time::{sleep, timeout};

use super::client::{Backoff, CallError};
use super::outbox::Sealed;
use super::{Agent, note};
use crate::wire::Answer;

/// How often to look without being woken.
const LOOK: Duration = Duration::from_secs(5);

/// Sends reports, again and again.
pub(super) async fn send_all(agent: Arc<Agent>) {
    let mut pause = Backoff::default();
    loop {
        while let Some(sealed) = oldest(&agent).await {
            match send(&agent, &sealed).await {
                Ok(()) => pause.reset(),
                Err(error) if is_for_later(&error) => {
                    sleep(pause.after(&error)).await;
                    continue;
                }
                Err(error) => note(&format!("a report is refused, and its crate runs again elsewhere: {error}")),
            }
            let lease = sealed.report.lease.clone();
            if let Err(error) = sealed.remove() {
                note(&format!("failed to remove a report that was sent: {error}"));
                sleep(LOOK).await;
            }
            agent.holding.sent(&lease);
        }
        // Woken or not, there may be a report.
        let _ = timeout(LOOK, agent.sealed.notified()).await;
    }
}

async fn oldest(agent: &Arc<Agent>) -> Option<Sealed> {
    let agent = Arc::clone(agent);
    // The disk may be slow.
    tokio::task::spawn_blocking(move || agent.outbox.oldest()).await.ok().flatten()
}

async fn send(agent: &Agent, sealed: &Sealed) -> Result<(), CallError> {
    let Sealed { report, bundle, .. } = sealed;
    if let Some(blob) = &report.bundle {
        agent.client.upload(blob.sha256, bundle.clone()).await?;
    }
    match agent.client.post::<_, Answer>("results", report).await? {
        Some(Answer { accepted: false, why }) => {
            note(&format!("a report came too late: {}", why.unwrap_or_else(|| "another one was first".to_owned())));
            Ok(())
        }
        Some(Answer { accepted: true, .. }) | None => Ok(()),
    }
}

/// Whether to keep the report. A token that is refused now may be replaced.
fn is_for_later(error: &CallError) -> bool {
    let token = matches!(
        error,
        CallError::Status {
            status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::UPGRADE_REQUIRED,
            ..
        }
    );
    token || error.may_pass()
}
