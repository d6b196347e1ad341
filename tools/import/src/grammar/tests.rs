//! Nesting, and what is lost by it.

use super::*;

fn parsed(text: &str, mode: Mode) -> (Document, Vec<(Option<u32>, &'static str)>) {
    let mut findings = Findings::default();
    let document = parse(text.as_bytes(), mode, &mut findings);
    let rules = findings
        .sorted()
        .iter()
        .map(|f| (f.line, f.rule.name()))
        .collect();
    (document, rules)
}

#[test]
fn sections_nest_and_the_last_value_counts() {
    let text = "defaults {\n  prio const\n  prio \"ana\" # comment\n}\n\
                devices {\n device {\n  vendor NVME\n }\n device {\n  product x\n }\n}\n";
    let (document, rules) = parsed(text, Mode::Literal);
    assert_eq!(document.defaults.text("prio"), Some("ana"));
    assert_eq!(document.devices.len(), 2);
    assert_eq!(document.devices[1].line, 9);
    assert_eq!(document.devices[1].settings.text("product"), Some("x"));
    assert_eq!(rules, [(Some(3), "duplicate-keyword")]);
}

#[test]
fn an_unknown_section_closes_the_one_around_it_in_multipathd_only() {
    let text = "devices {\n devce {\n  vendor A\n }\n device {\n  vendor B\n }\n}\n";
    let (literal, rules) = parsed(text, Mode::Literal);
    assert_eq!(literal.devices.len(), 0);
    assert_eq!(
        rules,
        [
            (Some(2), "unknown-section"),
            (Some(3), "unknown-keyword"),
            (Some(5), "unknown-section"),
            (Some(6), "unknown-keyword"),
            (Some(7), "unmatched-brace"),
            (Some(8), "unmatched-brace"),
        ]
    );
    let (intended, rules) = parsed(text, Mode::Intended);
    assert_eq!(intended.devices.len(), 1);
    assert_eq!(rules, [(Some(2), "unknown-section")]);
}

#[test]
fn a_brace_on_the_next_line_loses_overrides_in_multipathd_only() {
    let text = "overrides\n{\n prio const\n}\ndefaults\n{\n prio ana\n}\n";
    let (literal, _) = parsed(text, Mode::Literal);
    assert_eq!(literal.overrides.text("prio"), None);
    assert_eq!(literal.defaults.text("prio"), Some("ana"));
    let (intended, _) = parsed(text, Mode::Intended);
    assert_eq!(intended.overrides.text("prio"), Some("const"));
    assert_eq!(intended.defaults.text("prio"), Some("ana"));
}

#[test]
fn a_section_on_one_line_is_read_as_meant_in_intended_mode_only() {
    let text = "defaults { prio const }\ndevices { device { vendor A product B } }\n";
    let (literal, _) = parsed(text, Mode::Literal);
    assert_eq!(literal.defaults.text("prio"), None);
    assert_eq!(literal.devices.len(), 0);
    let (intended, rules) = parsed(text, Mode::Intended);
    assert_eq!(intended.defaults.text("prio"), Some("const"));
    assert_eq!(intended.devices[0].settings.text("product"), Some("B"));
    assert_eq!(rules, []);
}

#[test]
fn a_wrong_filter_or_reservation_key_makes_multipathd_refuse_the_file() {
    assert!(
        parsed("blacklist {\n wwid \"*\"\n}\n", Mode::Literal)
            .0
            .refused
    );
    assert!(
        parsed(
            "blacklist {\n device {\n vendor \"(\"\n }\n}\n",
            Mode::Literal
        )
        .0
        .refused
    );
    assert!(
        parsed("defaults {\n reservation_key z\n}\n", Mode::Literal)
            .0
            .refused
    );
    assert!(
        !parsed("defaults {\n failback z\n}\n", Mode::Literal)
            .0
            .refused
    );
    assert!(
        !parsed(
            "devices {\n device {\n vendor \"(\"\n }\n}\n",
            Mode::Literal
        )
        .0
        .refused
    );
}

#[test]
fn zero_takes_back_what_was_said() {
    let text = "defaults {\n rr_min_io_rq 5\n rr_min_io_rq 0\n failback 0\n}\n";
    let (document, rules) = parsed(text, Mode::Literal);
    assert_eq!(document.defaults.text("rr_min_io_rq"), None);
    assert_eq!(document.defaults.text("failback"), None);
    assert!(rules.contains(&(Some(4), "zero-is-unset")));
}

#[test]
fn near_misses_are_suggested() {
    assert_eq!(spelling("no_path_rety"), "did you mean no_path_retry?");
    assert_eq!(spelling("devce"), "did you mean device?");
    assert_eq!(spelling("qqqq"), "remove the line");
}

#[test]
fn an_open_end_is_said() {
    assert_eq!(
        parsed("defaults {\n", Mode::Literal).1,
        [(Some(1), "unclosed-section")]
    );
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_to_their_end(
        text in proptest::collection::vec(proptest::num::u8::ANY, 0..2000),
    ) {
        for mode in [Mode::Literal, Mode::Intended] {
            let mut findings = Findings::default();
            let document = parse(&text, mode, &mut findings);
            proptest::prop_assert!(document.devices.len() <= text.len());
        }
    }

    #[test]
    fn any_words_are_read_to_their_end(
        words in proptest::collection::vec(
            proptest::sample::select(vec![
                "defaults", "devices", "device", "overrides", "protocol", "multipaths",
                "multipath", "blacklist", "{", "}", "\n", "\n", "\"", "vendor", "product", "NVME",
                ".*", "prio", "alua", "wwid", "eui.1", "#", "!", "0", "*", " ",
            ]),
            0..200,
        ),
    ) {
        let text = words.join(" ");
        for mode in [Mode::Literal, Mode::Intended] {
            let mut findings = Findings::default();
            let document = parse(text.as_bytes(), mode, &mut findings);
            proptest::prop_assert!(document.devices.len() <= words.len());
        }
    }
}
