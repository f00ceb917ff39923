//! A channel that moved between two runs of an experiment: never in silence.
//!
//! Results of the two compilers are never mixed in any case, since the compiler's identity is in the fingerprint of
//! every step: results of the old one are not used, and the steps of the new one run.

use crate::toolchain::{Base, Toolchain};

/// What to tell of the toolchains of this run that are other compilers than they were.
pub(super) fn moved(before: &[Toolchain], now: &[Toolchain]) -> Vec<String> {
    let was = |toolchain: &Toolchain| before.iter().find(|before| before.spec == toolchain.spec).cloned();
    let pairs = now.iter().filter_map(|toolchain| Some((was(toolchain)?, toolchain)));
    let pairs = pairs.filter(|(was, is)| was.identity != is.identity || was.patches != is.patches);
    pairs.map(|(was, is)| in_words(&was, is)).collect()
}

fn in_words(was: &Toolchain, is: &Toolchain) -> String {
    let label = is.label();
    if was.identity == is.identity {
        return format!(
            "the patches of `{label}` have changed since the last run of this experiment: its results of that time are \
             not used, and its ops run again"
        );
    }
    let pin = match is.spec.base() {
        Base::Path(_) => String::new(),
        Base::Named(_) if !was.version.pre.is_empty() => {
            "; a nightly or beta with its date, such as `nightly-2026-05-15`, doesn't move".to_owned()
        }
        Base::Named(_) => format!("; `{}` goes on with the old one", was.version),
    };
    format!(
        "`{label}` has moved since the last run of this experiment, from {} to {}: results of the old compiler are not \
         used, and its ops run again{pin}",
        was.identity, is.identity
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sample;

    #[test]
    fn a_channel_that_moved_is_named_with_the_way_back() {
        let before = sample::toolchains(2);
        assert_eq!(moved(&before, &before), [""; 0]);
        let mut now = before.clone();
        now[0].identity = "rustc 1.96.0 (abc 2026-07-01)".to_owned();
        now[1].identity = "rustc 1.98.0-nightly (def 2026-07-01)".to_owned();
        let [stable, nightly] = &moved(&before, &now)[..] else { panic!("two have moved") };
        assert_eq!(
            stable,
            "`stable` has moved since the last run of this experiment, from rustc 1.95.0 (0123456789 2026-05-15) to \
             rustc 1.96.0 (abc 2026-07-01): results of the old compiler are not used, and its ops run again; `1.95.0` \
             goes on with the old one"
        );
        assert!(nightly.ends_with("such as `nightly-2026-05-15`, doesn't move"), "{nightly}");
        // One that is new to the experiment has not moved.
        assert_eq!(moved(&before[1..], &now[..1]), [""; 0]);
    }
}
