use super::*;

/// The results that are read from a text, in short: `TARGET: ok NAME, FAILED NAME, ignored NAME`, `…` behind an
/// incomplete target.
fn shown(text: &str) -> Vec<String> {
    let tests = parse(text).unwrap_or_default();
    let word = |result| match result {
        TestResult::Ok => "ok",
        TestResult::Failed => "FAILED",
        TestResult::Ignored => "ignored",
    };
    let target = |target: &Target| {
        let results: Vec<String> =
            target.tests.iter().map(|test| format!("{} {}", word(test.result), test.name)).collect();
        format!("{}: {}{}", target.target, results.join(", "), if target.complete { "" } else { "…" })
    };
    tests.targets.iter().map(target).collect()
}

const LIB: &str = "     Running unittests src/lib.rs (target/debug/deps/p-c93b59a92189d5d2)\n";

/// A library's target with these lines, which announces so many tests and ends with this summary.
fn lib(announced: usize, lines: &str, counts: [usize; 3]) -> String {
    let [passed, failed, ignored] = counts;
    format!(
        "{LIB}\nrunning {announced} tests\n{lines}\ntest result: ok. {passed} passed; {failed} failed; {ignored} ignored; \
         0 measured; 0 filtered out; finished in 0.40s\n\n"
    )
}

#[test]
fn results_are_read_from_what_libtest_prints() {
    for (text, expected) in [
        (
            lib(3, "test a::b ... ok\ntest c ... FAILED\ntest d ... ignored, why, so\n\nfailures:\n    c\n", [1, 1, 1]),
            "unittests src/lib.rs: ok a::b, FAILED c, ignored d",
        ),
        (
            lib(2, "test a - should panic ... ok\r\ntest b ... bench:   1 ns/iter (+/- 0)\r\n", [2, 0, 0]),
            "unittests src/lib.rs: ok a, ok b",
        ),
        (lib(0, "", [0, 0, 0]), "unittests src/lib.rs: "),
        // Children of tests print into the line, one thread at a time.
        (
            lib(3, "test a ... noise\nmore\nok\ntest b ... noiseok\ntest c ... ok\n", [3, 0, 0]),
            "unittests src/lib.rs: ok a, ok b, ok c",
        ),
        // Several threads print before it.
        (lib(2, "noisetest a ... ok\ntest b ... ok\nnoise", [2, 0, 0]), "unittests src/lib.rs: ok a, ok b"),
        // The list at the end has the last word.
        (
            lib(
                2,
                "test a ... it looks ok\nFAILED\ntest b ... ok\n\nfailures:\n\n---- a stdout ----\nx\n\nfailures:\n    a\n",
                [1, 1, 0],
            ),
            "unittests src/lib.rs: FAILED a, ok b",
        ),
        // What failed tests printed are not results.
        (
            lib(
                1,
                "test a ... FAILED\n\nfailures:\n\n---- a stdout ----\ntest inner ... ok\nfailures:\n    other\nx\n\nfailures:\n    a\n",
                [0, 1, 0],
            ),
            "unittests src/lib.rs: FAILED a",
        ),
        // A result that noise swallowed is derived from the summary.
        (lib(2, "test a ... ok\ntest b ... noise\n", [2, 0, 0]), "unittests src/lib.rs: ok a, ok b"),
        // Some tests are harnesses themselves.
        (
            lib(
                2,
                "test a ... ok\ntest ui ... test tests/ui/x.rs ... ok\ntest tests/ui/y.rs ... mismatch\nok\n",
                [2, 0, 0],
            ),
            "unittests src/lib.rs: ok a, ok ui",
        ),
        (
            lib(
                1,
                "test ui ... \ntest tests/ui/x.rs ... ok\ntest tests/ui/y.rs ... mismatch\n\nFAILED\n\nfailures:\n    ui\n",
                [0, 1, 0],
            ),
            "unittests src/lib.rs: FAILED ui",
        ),
        (lib(3, "test a ... ok\n", [3, 0, 0]), "unittests src/lib.rs: ok a…"),
        (format!("{LIB}\nrunning 2 tests\ntest a ... ok\ntest b ... "), "unittests src/lib.rs: ok a…"),
        (format!("{LIB}hello\n"), "unittests src/lib.rs: …"),
        // Results outside of a group belong to no target.
        (format!("test x ... ok\n{LIB}test y ... ok\n"), "unittests src/lib.rs: …"),
    ] {
        assert_eq!(shown(&text), [expected], "{text}");
    }
}

#[test]
fn every_target_has_its_own_results() {
    let group = |name: &str| {
        format!(
            "\nrunning 1 test\ntest {name} ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n\n"
        )
    };
    let text = [
        LIB,
        &group("same"),
        "     Running tests/ui.rs (/target/debug/deps/ui-0123456789abcdef)\n",
        &group("same"),
        "     Running unittests (target/debug/deps/p-0123456789abcdef)\n",
        &group("old"),
        "left without an end     Running target/debug/deps/older-0123456789abcdef\n",
        &group("older"),
        "     Running `target/debug/verbose`\n",
        "   Doc-tests p\n",
        &group("src/lib.rs - two (line 4) - compile fail"),
        // Editions that merge documentation tests print a second group.
        &group("src/lib.rs - two (line 9)"),
    ]
    .concat();
    assert_eq!(
        shown(&text),
        [
            "unittests src/lib.rs: ok same",
            "tests/ui.rs: ok same",
            "unittests p: ok old",
            "older: ok older",
            "doc-tests p: ok src/lib.rs - two (line 4), ok src/lib.rs - two (line 9)",
        ]
    );
    assert_eq!(parse("error: could not compile `p`\n"), None);
}

/// A target that failed, with the error that cargo prints then.
fn failed(lines: &str, counts: [usize; 3], flag: &str, cause: &str) -> String {
    let caused_by = if cause.is_empty() { String::new() } else { format!("\nCaused by:\n  {cause}\n") };
    format!("{}error: test failed, to rerun pass `{flag}`\n{caused_by}", lib(counts.iter().sum(), lines, counts))
}

#[test]
fn a_failure_is_accounted_for_by_failed_tests_and_nothing_else() {
    let one = "test a ... FAILED\n\nfailures:\n    a\n";
    let odd = "process didn't exit successfully: `/target/p` (exit status: 3)";
    let crash = "process didn't exit successfully: `/target/p` (signal: 6, SIGABRT: process abort signal)";
    for (text, accounted) in [
        (failed(one, [0, 1, 0], "--lib", ""), true),
        (failed(one, [0, 1, 0], "--lib", "") + &failed(one, [0, 1, 0], "--test ui", ""), true),
        // It failed after its tests.
        (failed("test a ... ok\n", [1, 0, 0], "--lib", ""), false),
        (failed(one, [0, 1, 0], "--lib", odd), false),
        // Only one of two failures is known.
        (failed(one, [0, 2, 0], "--lib", ""), false),
        // No harness.
        (failed(one, [0, 1, 0], "--lib", "") + LIB + "error: test failed, to rerun pass `--test plain`\n", false),
        (
            format!(
                "{LIB}\nrunning 1 test\ntest a ... error: test failed, to rerun pass `--lib`\n\nCaused by:\n  {crash}\n"
            ),
            false,
        ),
        // No line reports a failed target.
        (lib(1, one, [0, 1, 0]), false),
    ] {
        assert_eq!(parse(&text).unwrap().accounted, accounted, "{text}");
    }
}

#[test]
fn only_names_of_targets_are_taken_from_the_flag_that_selects_one() {
    for (text, flag) in [
        ("--lib", Some(TargetFlag::Lib)),
        ("--doc", Some(TargetFlag::Doc)),
        ("-p p --test ui", Some(TargetFlag::Test("ui".to_owned()))),
        ("--bin a-b_c", Some(TargetFlag::Bin("a-b_c".to_owned()))),
        ("--test --config", None),
        ("--config build.rustc='x'", None),
        ("--test a b", None),
        ("", None),
    ] {
        let text = failed("", [0, 0, 0], text, "");
        assert_eq!(parse(&text).unwrap().targets[0].flag, flag, "{text}");
    }
    assert_eq!(TargetFlag::Test("ui".to_owned()).args(), ["--test", "ui"]);
}

#[test]
fn of_too_many_tests_the_failed_ones_are_kept_and_the_cut_is_noted() {
    let name = |n: usize| format!("{n:0>100}");
    let count = MAX_BYTES / 100 + 1000;
    let mut lines: String = (0..count).map(|n| format!("test {} ... ok\n", name(n))).collect();
    lines += "test last ... FAILED\n\nfailures:\n    last\n";
    let tests = parse(&failed(&lines, [count, 1, 0], "--lib", "")).unwrap();
    let bytes: usize = tests.iter().map(|(_, test)| test.name.len()).sum();
    assert!(tests.cut && bytes <= MAX_BYTES + 4, "{bytes}");
    assert_eq!(tests.count(TestResult::Failed), 1);
    // Names without an end, and targets without number.
    let long = parse(&lib(1, &format!("test {} ... ok\n", "x".repeat(5000)), [1, 0, 0])).unwrap();
    assert!(long.cut && long.targets[0].tests.is_empty());
    let many = parse(&LIB.repeat(5000)).unwrap();
    assert!(many.cut && many.targets.len() == 1000);
}

#[test]
fn whatever_is_printed_is_read_without_a_panic() {
    let pieces = [
        "test ",
        " ... ",
        "ok",
        "FAILED",
        "ignored, ",
        "\n",
        "running 1 test\n",
        "running 99999999999999999999 tests\n",
        "failures:\n",
        "    ",
        LIB,
        "   Doc-tests ",
        "error: test failed, to rerun pass `",
        "é\u{0}",
        "test result: ok. ",
        "18446744073709551615 passed; 18446744073709551615 failed; 1 ignored; 1 measured; 0 filtered out\n",
    ];
    let mut state = 1_u64;
    for _ in 0..2000 {
        let mut text = String::new();
        for _ in 0..60 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            text += pieces[(state >> 33) as usize % pieces.len()];
        }
        parse(&text);
    }
}
