//! The settings of the stream, its consumers and its subjects. Each was tried on nats-server 2.9.10 and 2.15.1.

use serde_json::{Value, json};

use super::super::{JobId, Lane, Queue, Times};

/// The name of the stream.
pub(super) const STREAM: &str = "MAAR_JOBS";

/// The beginning of every receipt.
pub(super) const ACK_PREFIX: &str = "$JS.ACK.MAAR_JOBS.";

/// How many jobs one request takes at most.
pub(super) const BATCH: usize = 64;

/// The stream: a work queue, so that a job which has ended takes no room.
pub(super) fn stream(times: Times) -> Value {
    json!({
        "name": STREAM,
        "subjects": ["maar.job.>"],
        "retention": "workqueue",
        "storage": "file",
        "num_replicas": 1,
        "discard": "new",
        "max_msgs": 5_000_000,
        "max_msgs_per_subject": -1,
        "max_bytes": 2_u64 << 30,
        "max_msg_size": 1024,
        "max_age": 0,
        "max_consumers": -1,
        "duplicate_window": nanos(times.duplicates),
        "deny_delete": false,
        "deny_purge": false,
    })
}

/// The consumer of a queue. It has no inactive threshold: a quiet day must not delete it. It has no backoff: that would
/// replace `ack_wait`.
pub(super) fn consumer(queue: Queue, times: Times) -> Value {
    json!({
        "stream_name": STREAM,
        "config": {
            "durable_name": consumer_name(queue),
            "filter_subject": filter(queue),
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": nanos(times.lease),
            "max_deliver": -1,
            // Above all that is ever leased, or the queue would stall.
            "max_ack_pending": 20_000,
            "max_waiting": 512,
            "max_batch": BATCH,
            "replay_policy": "instant",
        },
    })
}

fn nanos(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// `maar.job.EXPERIMENT.GENERATION.LANE.SHARD`: numbers and fixed words only.
pub(super) fn subject(queue: Queue, shard: u8) -> String {
    let Queue { experiment, generation, lane } = queue;
    match lane {
        Lane::Std => format!("maar.job.{experiment}.{generation}.std.{shard:02}"),
        Lane::Big => format!("maar.job.{experiment}.{generation}.big.{shard:02}"),
        Lane::Confirm { not } => format!("maar.job.{experiment}.{generation}.confirm.{not}"),
    }
}

/// The subjects of a queue. Those of two queues never overlap: 2.15 refuses that, 2.9 doesn't notice.
pub(super) fn filter(queue: Queue) -> String {
    let Queue { experiment, generation, lane } = queue;
    match lane {
        Lane::Std => format!("maar.job.{experiment}.{generation}.std.>"),
        Lane::Big => format!("maar.job.{experiment}.{generation}.big.>"),
        Lane::Confirm { not } => format!("maar.job.{experiment}.{generation}.confirm.{not}"),
    }
}

/// The subjects of all queues of a generation.
pub(super) fn generation_filter(experiment: u32, generation: u32) -> String {
    format!("maar.job.{experiment}.{generation}.>")
}

/// The name of a queue's consumer.
pub(super) fn consumer_name(queue: Queue) -> String {
    format!("{}{}", generation_prefix(queue.experiment, queue.generation), queue.lane)
}

/// The beginning of the names of a generation's consumers.
pub(super) fn generation_prefix(experiment: u32, generation: u32) -> String {
    format!("e{experiment}g{generation}-")
}

/// The id by which NATS finds a job that was published twice.
pub(super) fn message_id(job: JobId, round: u32) -> String {
    match round {
        0 => job.to_string(),
        round => format!("{job}.r{round}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_have_subjects_that_do_not_overlap() {
        let queue = |experiment, generation, lane| Queue { experiment, generation, lane };
        let std = queue(17, 2, Lane::Std);
        assert_eq!((subject(std, 5).as_str(), filter(std).as_str()), ("maar.job.17.2.std.05", "maar.job.17.2.std.>"));
        assert_eq!(consumer_name(std), "e17g2-std");
        let confirm = queue(17, 2, Lane::Confirm { not: 3 });
        assert_eq!(
            (subject(confirm, 0), filter(confirm)),
            ("maar.job.17.2.confirm.3".into(), "maar.job.17.2.confirm.3".into())
        );
        // No prefix of a generation is one of another.
        assert!(!consumer_name(queue(17, 21, Lane::Std)).starts_with(&generation_prefix(17, 2)));
    }

    #[test]
    fn a_job_has_another_id_in_each_round() {
        let job = JobId { experiment: 17, generation: 2, position: 123_456 };
        assert_eq!((message_id(job, 0), message_id(job, 1)), ("17.2.123456".to_owned(), "17.2.123456.r1".to_owned()));
    }
}
