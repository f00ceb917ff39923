//! From which queues the next jobs of an agent come, and how many from each.
//!
//! Strict by priority; among equals the experiment that has had least of core-seconds ÷ weight is next.

use crate::lease::{Lane, Queue};

/// An experiment that an agent may work on.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The experiment's number.
    pub experiment: u32,
    /// Which time it runs.
    pub generation: u32,
    /// Higher ones go first, always.
    pub priority: i64,
    /// How much it gets beside others of its priority.
    pub weight: f64,
    /// Its work so far: see [`Shares`](super::Shares).
    pub had: f64,
    /// The expected cost of one of its jobs, in core-seconds.
    pub cost: f64,
    /// The lanes that may have jobs for this agent, those first that fewer agents can serve.
    pub lanes: Vec<Lane>,
}

/// How many jobs to take from which queue, in this order, when `want` are wanted.
///
/// Only experiments of the highest priority are in it. When their queues give less than they were asked for, ask again
/// without the lanes that are empty.
pub fn allot(candidates: &[Candidate], want: usize) -> Vec<(Queue, usize)> {
    let able: Vec<&Candidate> = candidates.iter().filter(|candidate| !candidate.lanes.is_empty()).collect();
    let Some(highest) = able.iter().map(|candidate| candidate.priority).max() else { return Vec::new() };
    let mut equals: Vec<(&Candidate, f64, usize)> = Vec::new();
    equals.extend(able.iter().filter(|of| of.priority == highest).map(|candidate| (*candidate, candidate.had, 0)));
    let mut turns = Vec::new();
    for _ in 0..want {
        let next = equals.iter_mut().min_by(|(one, had, _), (other, others, _)| {
            had.total_cmp(others).then(one.experiment.cmp(&other.experiment))
        });
        let Some((candidate, had, count)) = next else { break };
        // An expectation of nothing would let one experiment have all turns.
        *had += candidate.cost.max(0.001) / candidate.weight.max(0.01);
        *count += 1;
        if *count == 1 {
            turns.push(candidate.experiment);
        }
    }
    let allotted = turns.into_iter().filter_map(|turn| equals.iter().find(|(of, ..)| of.experiment == turn));
    let queue = |(of, _, count): &(&Candidate, f64, usize)| {
        let lane = *of.lanes.first()?;
        Some((Queue { experiment: of.experiment, generation: of.generation, lane }, *count))
    };
    allotted.filter_map(queue).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(experiment: u32, priority: i64, weight: f64, had: f64) -> Candidate {
        Candidate { experiment, generation: 1, priority, weight, had, cost: 10.0, lanes: vec![Lane::Std] }
    }

    fn check(candidates: &[Candidate], want: usize, expected: &[(u32, usize)]) {
        let allotted: Vec<_> =
            allot(candidates, want).into_iter().map(|(queue, count)| (queue.experiment, count)).collect();
        assert_eq!(allotted, expected, "{candidates:?}");
    }

    #[test]
    fn a_higher_priority_gets_everything() {
        check(&[candidate(1, 0, 100.0, 0.0), candidate(2, 5, 1.0, 9e9)], 8, &[(2, 8)]);
        check(&[candidate(1, -1, 1.0, 0.0), candidate(2, -2, 1.0, 0.0)], 8, &[(1, 8)]);
    }

    #[test]
    fn equals_share_by_what_they_have_had_and_by_weight() {
        check(&[candidate(1, 0, 1.0, 0.0), candidate(2, 0, 1.0, 0.0)], 8, &[(1, 4), (2, 4)]);
        check(&[candidate(1, 0, 3.0, 0.0), candidate(2, 0, 1.0, 0.0)], 8, &[(1, 6), (2, 2)]);
        check(&[candidate(1, 0, 1.0, 40.0), candidate(2, 0, 1.0, 0.0)], 8, &[(2, 6), (1, 2)]);
        check(&[candidate(1, 0, 1.0, 1e9), candidate(2, 0, 1.0, 0.0)], 8, &[(2, 8)]);
    }

    #[test]
    fn one_without_jobs_for_this_agent_leaves_its_turn_to_others() {
        let empty = Candidate { lanes: Vec::new(), ..candidate(2, 5, 1.0, 0.0) };
        check(&[candidate(1, 0, 1.0, 0.0), empty.clone()], 8, &[(1, 8)]);
        check(&[empty], 8, &[]);
        check(&[], 8, &[]);
        check(&[candidate(1, 0, 1.0, 0.0)], 0, &[]);
    }

    #[test]
    fn lanes_that_fewer_agents_can_serve_go_first() {
        let of = Candidate { lanes: vec![Lane::Confirm { not: 2 }, Lane::Big, Lane::Std], ..candidate(1, 0, 1.0, 0.0) };
        assert_eq!(allot(&[of], 1)[0].0.lane, Lane::Confirm { not: 2 });
    }

    #[test]
    fn jobs_that_cost_nothing_are_shared_too() {
        let free = |experiment| Candidate { cost: 0.0, ..candidate(experiment, 0, 1.0, 0.0) };
        check(&[free(1), free(2)], 8, &[(1, 4), (2, 4)]);
        let odd = Candidate { weight: 0.0, ..candidate(1, 0, 1.0, 0.0) };
        check(&[odd], 3, &[(1, 3)]);
    }
}
