//! The report as JSON, for programs. docs/report.md describes every field.

use std::io::Write;

use super::ReportError;
use crate::compare::Report;

/// Writes the report as one line of JSON.
pub fn write(report: &Report, out: &mut dyn Write) -> Result<(), ReportError> {
    serde_json::to_writer(&mut *out, report).map_err(std::io::Error::from)?;
    out.write_all(b"\n")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::compare::{compare, sample};

    fn written(report: &Report) -> Value {
        let mut bytes = Vec::new();
        write(report, &mut bytes).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn the_json_has_the_documented_shape() {
        let mut results = sample::results(1, vec![sample::named("itoa", "1.0.18", 'p', &["f-"])]);
        results.crates[0].steps[0].1.as_mut().unwrap().peak_memory = None;
        results.runs.push(sample::run());
        let expected = json!({
            "schema": 1,
            "experiment": "sample",
            "started": "2026-05-17T06:40:00Z",
            "finished": "2026-05-17T06:41:01Z",
            "toolchains": [{
                "spec": "stable", "label": "stable", "version": "1.95.0", "identity": "rustc 1.95.0 (0123456789 2026-05-15)"
            }],
            "notes": ["this host can't limit memory"],
            "summary": {
                "regressed": 0, "error": 0, "build-fail": 1, "test-fail": 0, "inconclusive": 0, "broken": 0,
                "fixed": 0, "pending": 0, "skipped": 0, "pass": 0
            },
            "crates": [{
                "crate": "itoa",
                "version": "1.0.18",
                "source": "registry",
                "verdict": "build-fail",
                "verdict_reason": "build@stable: does not compile: E0308",
                "results": [{
                    "toolchain": "stable",
                    "outcome": "failed",
                    "reason": "does not compile: E0308",
                    "ops": [
                        {
                            "op": "prepare", "stage": "fetch", "outcome": "passed", "reason": null, "attempt": 1,
                            "wall_ms": 61500, "cpu_ms": 59123, "peak_memory_bytes": null,
                            "waited_ms": 5, "units": { "compiled": 1, "reused": 20, "in_op": 0, "again": 0 }, "tests": null
                        },
                        {
                            "op": "build", "stage": "build", "outcome": "failed", "reason": "does not compile: E0308",
                            "attempt": 1, "wall_ms": 61500, "cpu_ms": 59123, "peak_memory_bytes": 314_572_800,
                            "waited_ms": 5, "units": { "compiled": 1, "reused": 20, "in_op": 0, "again": 0 }, "tests": null
                        }
                    ]
                }]
            }],
            "runs": [{
                "started": "2026-05-17T06:40:00Z", "wall_ms": 600_000, "cpu_ms": 118_246,
                "units": { "compiled": 2, "reused": 40, "in_op": 0, "again": 0 },
                "removal_ms": 7000,
                "downloaded_bytes": 3_145_728,
                "pools": [
                    { "stage": "fetch", "workers": 2, "ops": 1, "busy_ms": 61500, "waited_ms": 5 },
                    { "stage": "build", "workers": 2, "ops": 1, "busy_ms": 61500, "waited_ms": 5 },
                    { "stage": "test", "workers": 2, "ops": 0, "busy_ms": 0, "waited_ms": 0 }
                ]
            }]
        });
        assert_eq!(written(&compare(&results)), expected);
    }

    #[test]
    fn the_tests_of_an_op_are_told_one_by_one() {
        let json = written(&compare(&sample::results(1, vec![sample::tested(&[&["f a+ ui/b- ui/c~"]])])));
        let tests = json["crates"][0]["results"][0]["ops"][2]["tests"].clone();
        let expected = json!({
            "ok": 1, "failed": 1, "ignored": 1, "cut": false, "selected": false,
            "targets": [
                { "target": "lib", "flag": "lib", "complete": true, "tests": [{ "name": "a", "result": "ok" }] },
                {
                    "target": "ui", "flag": "lib", "complete": true,
                    "tests": [{ "name": "b", "result": "failed" }, { "name": "c", "result": "ignored" }]
                }
            ]
        });
        assert_eq!(tests, expected);
    }

    #[test]
    fn what_is_not_known_is_null_and_what_has_not_run_is_pending() {
        let crates = vec![sample::missing_crate("no crate named `absent`"), sample::crate_of('-', &["--"])];
        let json = written(&compare(&sample::results(1, crates)));
        assert_eq!(json["started"], Value::Null);
        assert_eq!(json["crates"][0]["version"], Value::Null);
        assert_eq!(json["crates"][0]["results"][0]["outcome"], "broken");
        assert_eq!(json["crates"][1]["verdict"], "pending");
        assert_eq!(json["crates"][1]["results"][0]["outcome"], "pending");
        assert_eq!(json["crates"][1]["results"][0]["ops"], json!([]));
    }
}
