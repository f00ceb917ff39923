//! Remarks on requests that probably mean something else. A run goes on in spite of them.

use std::collections::BTreeSet;

use crate::experiment::Experiment;
use crate::nearest::nearest;
use crate::ops::{Op, environment};
use crate::plan::CratePlan;
use crate::toolchain::Toolchain;

/// Where the selected crates were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelectedBy {
    /// In the file, beside the settings of single crates.
    File,
    /// On the command line: the file has settings of other crates, too.
    Flags,
}

/// All remarks.
pub(super) fn remarks(
    experiment: &Experiment,
    toolchains: &[Toolchain],
    plans: &[CratePlan],
    selected_by: SelectedBy,
) -> Vec<String> {
    let names: BTreeSet<&str> = plans.iter().map(|plan| plan.krate.id.name.as_str()).collect();
    let settings = experiment.crate_settings.keys().map(|name| name.as_str());
    let of_settings = settings.filter_map(|name| unused_settings(name, &names, selected_by));
    let unused_patterns = experiment.crate_patterns.iter().filter_map(|(pattern, _)| {
        let matches = plans.iter().any(|plan| pattern.matches(&plan.krate.id.name));
        match selected_by {
            SelectedBy::File if !matches => {
                Some(format!("`[crate.\"{}\"]` has no effect, as it matches no selected crate", pattern.as_str()))
            }
            SelectedBy::File | SelectedBy::Flags => None,
        }
    });
    let of_toolchains =
        same_compilers(toolchains).into_iter().chain(lints(toolchains)).chain(own_ops(experiment, toolchains));
    of_toolchains.chain(of_settings).chain(unused_patterns).collect()
}

/// Toolchains that build alike differ by chance only.
fn same_compilers(toolchains: &[Toolchain]) -> Vec<String> {
    let later = |place: usize| &toolchains[place + 1..];
    let pairs = toolchains.iter().enumerate().filter_map(|(place, one)| {
        let same = later(place).iter().find(|other| other.builds_as(one))?;
        Some(format!(
            "`{}` and `{}` are the same compiler, {}: whatever differs between them is chance",
            one.label(),
            same.label(),
            one.identity
        ))
    });
    pairs.collect()
}

/// Flags of one toolchain that lift the cap on lints for all of them.
fn lints(toolchains: &[Toolchain]) -> Option<String> {
    let toolchain = toolchains.iter().find(|toolchain| environment::denies_lints(toolchain))?;
    Some(format!(
        "lints are not capped, on any toolchain, because of the flags of `{}`: what a crate denies fails its build",
        toolchain.label()
    ))
}

/// Settings that don't reach ops of the user's own.
fn own_ops(experiment: &Experiment, toolchains: &[Toolchain]) -> Vec<String> {
    let Some(op) = experiment.ops.iter().find(|op| matches!(op, Op::Command(_))) else { return Vec::new() };
    let remarks = toolchains.iter().filter_map(|toolchain| {
        let settings = toolchain.settings();
        let key = match (&settings.profile, settings.cargoflags.is_empty()) {
            (Some(_), _) => "profile",
            (None, false) => "cargoflags",
            (None, true) => return None,
        };
        let (name, label) = (op.name(), toolchain.label());
        Some(format!("`{key}` of `{label}` doesn't reach op `{name}`, whose command runs as it was written"))
    });
    remarks.collect()
}

/// `[crate.NAME]` of a crate that isn't selected does nothing.
fn unused_settings(name: &str, selected: &BTreeSet<&str>, selected_by: SelectedBy) -> Option<String> {
    if selected.contains(name) {
        return None;
    }
    match (nearest(name, selected.iter().copied()), selected_by) {
        (Some(meant), _) => Some(format!(
            "`[crate.{name}]` has no effect, as no crate of that name is selected; did you mean `{meant}`?"
        )),
        (None, SelectedBy::File) => {
            Some(format!("`[crate.{name}]` has no effect, as no crate of that name is selected"))
        }
        (None, SelectedBy::Flags) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sample;

    #[test]
    fn one_compiler_under_two_names_is_remarked_on() {
        let mut toolchains = sample::toolchains(3);
        assert_eq!(same_compilers(&toolchains), [""; 0]);
        toolchains[2].identity = toolchains[0].identity.clone();
        assert_eq!(
            same_compilers(&toolchains),
            ["`stable` and `beta` are the same compiler, rustc 1.95.0 (0123456789 2026-05-15): \
                 whatever differs between them is chance"]
        );
    }

    #[test]
    fn settings_of_a_crate_that_is_not_selected_are_remarked_on() {
        let selected = BTreeSet::from(["serde", "itoa"]);
        let remark = |name, by| unused_settings(name, &selected, by).unwrap_or_default();
        for by in [SelectedBy::File, SelectedBy::Flags] {
            assert_eq!(remark("serde", by), "");
            assert_eq!(
                remark("sered", by),
                "`[crate.sered]` has no effect, as no crate of that name is selected; did you mean `serde`?"
            );
        }
        assert_eq!(
            remark("clap", SelectedBy::File),
            "`[crate.clap]` has no effect, as no crate of that name is selected"
        );
        assert_eq!(remark("clap", SelectedBy::Flags), "");
    }
}
