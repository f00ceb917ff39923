//! The engine on NATS JetStream: one work-queue stream, one pull consumer for each queue.
//!
//! All settings of stream and consumers are in `settings.rs`. Streams and consumers that are gone are made again when
//! they are missed; the jobs in them are the feeder's to publish again.

mod child;
mod error;
mod settings;

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::response::Response;
use async_nats::{Client, ConnectOptions, HeaderMap, StatusCode};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use super::{JobId, Queue, Receipt, Taken, Times, Waiting};
pub use child::{Server, find_server};
pub use error::NatsError;
use settings::{ACK_PREFIX, BATCH, STREAM};

/// How long a request to NATS may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a request for jobs may take, which is answered at once.
const TAKE_PATIENCE: Duration = Duration::from_secs(5);

/// How many messages may be published without an answer.
const IN_FLIGHT: usize = 2_000;

/// NATS JetStream.
#[derive(Debug)]
pub struct Nats {
    times: Times,
    /// The connection; none while the server is being started again.
    client: watch::Receiver<Option<Client>>,
    /// The queues whose consumers are there, as far as this process has seen.
    open: Mutex<HashSet<Queue>>,
    /// The server, if it is a child of this process.
    _child: Option<Server>,
}

/// A message: everything else is looked up at handout, so that no message is ever out of date.
#[derive(Debug, Serialize, Deserialize)]
struct Message {
    e: u32,
    g: u32,
    p: u32,
}

impl Nats {
    /// Connects to a server by its URL, such as `nats://nats.example.org`, and goes on trying if it doesn't answer yet.
    pub async fn connect(url: &str, times: Times) -> Result<Self, NatsError> {
        let options = options().retry_on_initial_connect();
        let client = options.connect(url).await.map_err(|source| NatsError::Connect { url: url.to_owned(), source })?;
        let (_, client) = watch::channel(Some(client));
        Ok(Self { times, client, open: Mutex::default(), _child: None })
    }

    /// Uses a server that is a child of this process.
    pub fn with(server: Server, times: Times) -> Self {
        Self { times, client: server.client(), open: Mutex::default(), _child: Some(server) }
    }

    pub(super) async fn publish(&self, queue: Queue, round: u32, jobs: &[Waiting]) -> Result<(), NatsError> {
        match self.publish_once(queue, round, jobs).await {
            // No server answers for the subject of a stream that doesn't exist.
            Err(NatsError::Gone) => {
                self.make_stream().await?;
                self.publish_once(queue, round, jobs).await
            }
            done => done,
        }
    }

    async fn publish_once(&self, queue: Queue, round: u32, jobs: &[Waiting]) -> Result<(), NatsError> {
        let context = self.context()?;
        for jobs in jobs.chunks(IN_FLIGHT) {
            // Sent one after another, so that they wait in this order; only the answers overlap.
            let mut acks = Vec::with_capacity(jobs.len());
            for Waiting { job, shard } in jobs {
                let JobId { experiment, generation, position } = *job;
                let message = Message { e: experiment, g: generation, p: position };
                let payload = serde_json::to_vec(&message).expect("numbers can be written as JSON");
                let mut headers = HeaderMap::new();
                headers.insert("Nats-Msg-Id", settings::message_id(*job, round));
                let subject = settings::subject(queue, *shard);
                let sent = context.publish_with_headers(subject, headers, payload.into()).await;
                acks.push(sent.map_err(NatsError::publish)?.into_future());
            }
            try_join_all(acks).await.map_err(NatsError::publish)?;
        }
        Ok(())
    }

    pub(super) async fn take(&self, queue: Queue, most: usize) -> Result<Vec<Taken>, NatsError> {
        self.open(queue).await?;
        let taken = self.take_once(queue, most).await;
        if taken.is_err() {
            // The consumer may be gone: 2.9 doesn't answer then. The next call makes it if it isn't there.
            self.note_closed(&queue);
        }
        match taken {
            Err(NatsError::Gone) => {
                self.open(queue).await?;
                self.take_once(queue, most).await
            }
            taken => taken,
        }
    }

    async fn take_once(&self, queue: Queue, most: usize) -> Result<Vec<Taken>, NatsError> {
        let mut taken = Vec::new();
        while taken.len() < most {
            let batch = (most - taken.len()).min(BATCH);
            let came = match timeout(TAKE_PATIENCE, self.take_batch(queue, batch)).await {
                Ok(Ok(came)) => came,
                Ok(Err(error)) if taken.is_empty() => return Err(error),
                Err(elapsed) if taken.is_empty() => return Err(NatsError::silent("take jobs")(elapsed)),
                // The jobs that came before are leased.
                Ok(Err(_)) | Err(_) => break,
            };
            let is_last = came.len() < batch;
            taken.extend(came);
            if is_last {
                break;
            }
        }
        Ok(taken)
    }

    async fn take_batch(&self, queue: Queue, batch: usize) -> Result<Vec<Taken>, NatsError> {
        let client = self.client()?;
        let inbox = client.new_inbox();
        let mut messages = client.subscribe(inbox.clone()).await.map_err(NatsError::silent("take jobs"))?;
        let next = format!("$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{}", settings::consumer_name(queue));
        let wanted = json!({ "batch": batch, "no_wait": true }).to_string();
        let asked = client.publish_with_reply(next, inbox, wanted.into()).await;
        asked.map_err(NatsError::silent("take jobs"))?;
        let mut taken = Vec::new();
        let mut came = 0;
        while came < batch {
            let Some(message) = messages.next().await else { break };
            match message.status {
                None | Some(StatusCode::OK) => {
                    came += 1;
                    let receipt = Receipt(message.reply.as_ref().map_or_else(String::new, ToString::to_string));
                    taken.extend(self.read(&message.payload, receipt).await);
                }
                // Nothing more waits.
                Some(StatusCode::NOT_FOUND | StatusCode::TIMEOUT) => break,
                // The consumer or the stream doesn't exist.
                Some(StatusCode::NO_RESPONDERS) => return Err(NatsError::Gone),
                Some(status) if taken.is_empty() => {
                    let words = message.description.unwrap_or_default();
                    return Err(NatsError::Status { status: format!("{status} {words}") });
                }
                Some(_) => break,
            }
        }
        Ok(taken)
    }

    /// The job of a message. One that isn't ours is removed from the queue.
    async fn read(&self, payload: &[u8], receipt: Receipt) -> Option<Taken> {
        match serde_json::from_slice(payload) {
            Ok(Message { e: experiment, g: generation, p: position }) => {
                Some(Taken { job: JobId { experiment, generation, position }, receipt })
            }
            Err(_) => {
                // Should this fail, the message comes again.
                let _ = self.end(&receipt).await;
                None
            }
        }
    }

    pub(super) async fn renew(&self, receipt: &Receipt) -> Result<(), NatsError> {
        self.answer(receipt, "+WPI".into()).await
    }

    pub(super) async fn end(&self, receipt: &Receipt) -> Result<(), NatsError> {
        self.answer(receipt, "+ACK".into()).await
    }

    pub(super) async fn put_back(&self, receipt: &Receipt, delay: Duration) -> Result<(), NatsError> {
        let how = if delay.is_zero() { "-NAK".to_owned() } else { format!("-NAK {{\"delay\":{}}}", delay.as_nanos()) };
        self.answer(receipt, how.into()).await
    }

    /// Answers a delivery, and waits until NATS has taken that in: an answer that isn't waited for can be lost.
    async fn answer(&self, receipt: &Receipt, how: Bytes) -> Result<(), NatsError> {
        const DOING: &str = "answer a delivery";
        if !receipt.0.starts_with(ACK_PREFIX) {
            return Err(NatsError::Receipt);
        }
        let client = self.client()?;
        let answered = timeout(PATIENCE, client.request(receipt.0.clone(), how)).await;
        answered.map_err(NatsError::silent(DOING))?.map(drop).map_err(NatsError::silent(DOING))
    }

    pub(super) async fn held(&self, queue: Queue) -> Result<u64, NatsError> {
        let filter = json!({ "subjects_filter": settings::filter(queue) });
        let info = match self.api("count jobs", &format!("STREAM.INFO.{STREAM}"), &filter).await {
            Ok(info) => info,
            Err(NatsError::Gone) => return Ok(0),
            Err(error) => return Err(error),
        };
        // A queue has 64 subjects at most; NATS lists 100,000 in one answer.
        let subjects = info.pointer("/state/subjects").and_then(Value::as_object);
        Ok(subjects.map_or(0, |subjects| subjects.values().filter_map(Value::as_u64).sum()))
    }

    pub(super) async fn forget(&self, experiment: u32, generation: u32) -> Result<(), NatsError> {
        match self.forget_once(experiment, generation).await {
            // There is nothing to forget.
            Err(NatsError::Gone) => Ok(()),
            done => done,
        }
    }

    async fn forget_once(&self, experiment: u32, generation: u32) -> Result<(), NatsError> {
        let prefix = settings::generation_prefix(experiment, generation);
        let mut offset = 0;
        let mut names = Vec::new();
        loop {
            let page =
                self.api("list consumers", &format!("CONSUMER.NAMES.{STREAM}"), &json!({ "offset": offset })).await?;
            let listed: Vec<&str> =
                page["consumers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            offset += listed.len();
            names.extend(listed.iter().filter(|name| name.starts_with(&prefix)).map(|name| (*name).to_owned()));
            if listed.is_empty() || page["total"].as_u64().is_none_or(|total| offset as u64 >= total) {
                break;
            }
        }
        // The consumers first: no job of the generation is handed out while it is purged.
        for name in names {
            self.delete_consumer(&name).await?;
        }
        self.opened().retain(|queue| (queue.experiment, queue.generation) != (experiment, generation));
        let filter = json!({ "filter": settings::generation_filter(experiment, generation) });
        self.api("purge jobs", &format!("STREAM.PURGE.{STREAM}"), &filter).await.map(drop)
    }

    pub(super) async fn mend(&self, queue: Queue) -> Result<(), NatsError> {
        self.delete_consumer(&settings::consumer_name(queue)).await?;
        self.note_closed(&queue);
        self.open(queue).await
    }

    async fn delete_consumer(&self, name: &str) -> Result<(), NatsError> {
        match self.api("delete a consumer", &format!("CONSUMER.DELETE.{STREAM}.{name}"), &json!({})).await {
            Ok(_) | Err(NatsError::Gone) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes the consumer of a queue if it isn't there, and the stream with it.
    async fn open(&self, queue: Queue) -> Result<(), NatsError> {
        if self.opened().contains(&queue) {
            return Ok(());
        }
        match self.make_consumer(queue).await {
            Err(NatsError::Gone) => {
                self.make_stream().await?;
                self.make_consumer(queue).await?;
            }
            made => made?,
        }
        self.opened().insert(queue);
        Ok(())
    }

    async fn make_consumer(&self, queue: Queue) -> Result<(), NatsError> {
        let subject = format!("CONSUMER.DURABLE.CREATE.{STREAM}.{}", settings::consumer_name(queue));
        self.api("make a consumer", &subject, &settings::consumer(queue, self.times)).await.map(drop)
    }

    async fn make_stream(&self) -> Result<(), NatsError> {
        self.api("make the stream", &format!("STREAM.CREATE.{STREAM}"), &settings::stream(self.times)).await.map(drop)
    }

    /// A request to JetStream's own interface.
    async fn api(&self, doing: &'static str, subject: &str, body: &Value) -> Result<Value, NatsError> {
        match self.context()?.request(subject.to_owned(), body).await.map_err(NatsError::silent(doing))? {
            Response::Ok(answer) => Ok(answer),
            Response::Err { error } => Err(NatsError::refused(doing, error)),
        }
    }

    fn context(&self) -> Result<Context, NatsError> {
        let builder = ContextBuilder::new().timeout(PATIENCE).ack_timeout(PATIENCE);
        Ok(builder.max_ack_inflight(2 * IN_FLIGHT).build(self.client()?))
    }

    fn client(&self) -> Result<Client, NatsError> {
        self.client.borrow().clone().ok_or(NatsError::Down)
    }

    fn note_closed(&self, queue: &Queue) {
        self.opened().remove(queue);
    }

    fn opened(&self) -> std::sync::MutexGuard<'_, HashSet<Queue>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The options of a connection.
fn options() -> ConnectOptions {
    ConnectOptions::new().name("maar").request_timeout(Some(PATIENCE)).ignore_discovered_servers()
}
