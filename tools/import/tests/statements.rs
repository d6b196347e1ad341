//! One test for each promise of the importer. The corpus shows the same on whole files.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use umpath_import::{Finding, Mode, import};

const ARRAY: &[u8] = include_bytes!("corpus/array-guide.conf");

fn toml(text: &str, mode: Mode) -> toml::Table {
    let import = import(text.as_bytes(), None, mode);
    import.toml.unwrap().parse().unwrap()
}

/// A key of `[defaults]` in literal mode.
fn literal(text: &str, key: &str) -> Option<String> {
    default(text, key, Mode::Literal)
}

fn intended(text: &str, key: &str) -> Option<String> {
    default(text, key, Mode::Intended)
}

fn default(text: &str, key: &str, mode: Mode) -> Option<String> {
    let value = toml(text, mode)["defaults"].get(key)?.clone();
    Some(match value {
        toml::Value::String(text) => text,
        other => other.to_string(),
    })
}

/// The `[[device]]` entry of this model.
fn device(toml: &toml::Table, model: &str) -> Option<toml::Value> {
    let devices = toml.get("device")?.as_array()?;
    let named = |device: &&toml::Value| device["model"].as_str() == Some(model);
    devices.iter().find(named).cloned()
}

#[test]
fn literal_and_intended_differ_on_the_arrays_own_section() {
    let of = |mode| -> toml::Table { import(ARRAY, None, mode).toml.unwrap().parse().unwrap() };
    let (literal, intended) = (of(Mode::Literal), of(Mode::Intended));
    assert_eq!(literal["defaults"], intended["defaults"]);
    assert_eq!(device(&literal, "PVL-.*"), None, "multipathd drops it");
    let array = device(&intended, "PVL-.*").unwrap();
    for (key, value) in [
        ("path_grouping_policy", "failover"),
        ("path_selector", "queue-length 0"),
        ("prio", "ana"),
        ("failback", "manual"),
    ] {
        assert_eq!(array[key].as_str(), Some(value));
    }
    assert_eq!(array["exclusive_pref_bit"].as_bool(), Some(true));
    assert_eq!(array["fast_io_fail_ms"].as_integer(), Some(25_000));
}

#[test]
fn the_lint_names_each_reason_with_rule_line_and_correct_spelling() {
    let findings = import(ARRAY, None, Mode::Literal).findings;
    for (rule, line) in [
        ("filter-matches-nothing", 9),
        ("glob-not-pattern", 15),
        ("device-without-product", 26),
        ("vendor-not-nvme", 27),
        ("hardware-handler-on-nvme", 31),
        ("alua-on-nvme", 32),
        ("prio-args-unused", 33),
        ("rr-weight-unused", 35),
        ("scsi-only", 36),
    ] {
        let found = |finding: &Finding| finding.rule.name() == rule && finding.line == Some(line);
        let finding = findings.iter().find(|finding| found(finding));
        let finding = finding.unwrap_or_else(|| panic!("no {rule} on line {line}"));
        assert!(!finding.correction.is_empty(), "{finding}");
    }
    let spelled = "vendor \"NVME\" and product \"PVL-.*\"";
    let product = |finding: &&Finding| finding.rule.name() == "device-without-product";
    let finding = findings.iter().find(product).unwrap();
    assert!(finding.correction.contains(spelled), "{finding}");
}

#[test]
fn unknown_keywords_warn_and_never_abort() {
    let text = "defaults {\n no_such_thing 3\n no_path_retry queue\n}\nnowhere {\n x 1\n}\n";
    for mode in [Mode::Literal, Mode::Intended] {
        let import = import(text.as_bytes(), None, mode);
        assert!(import.toml.unwrap().contains("no_path_retry = \"queue\""));
        let rules: Vec<_> = import.findings.iter().map(|f| f.rule.name()).collect();
        assert!(rules.contains(&"unknown-keyword"), "{rules:?}");
        assert!(rules.contains(&"unknown-section"), "{rules:?}");
    }
}

#[test]
fn precedence_is_multipaths_overrides_protocol_first_devices_defaults() {
    let defaults = "defaults {\n no_path_retry 1\n}\n";
    let device = "devices {\n device {\n vendor NVME\n product \".*\"\n no_path_retry 2\n }\n}\n";
    let overrides = "overrides {\n no_path_retry 3\n}\n";
    let volume =
        "multipaths {\n multipath {\n wwid eui.0025385b71b00a01\n no_path_retry 5\n }\n}\n";
    let seconds = |parts: &[&str]| literal(&parts.concat(), "no_path_retry").unwrap();
    assert_eq!(seconds(&[defaults]), "5s");
    assert_eq!(seconds(&[defaults, device]), "10s");
    assert_eq!(seconds(&[overrides, defaults, device]), "15s");
    let all = toml(
        &[overrides, volume, defaults, device].concat(),
        Mode::Literal,
    );
    assert_eq!(all["volume"][0]["no_path_retry"].as_str(), Some("25s"));
    let protocol = "overrides {\n fast_io_fail_tmo 9\n protocol {\n type nvme:rdma\n \
                    fast_io_fail_tmo 4\n }\n}\n";
    assert_eq!(intended(protocol, "fast_io_fail_ms").unwrap(), "4000");
}

#[test]
fn later_device_sections_win() {
    let section = |failback: &str| {
        format!("device {{\n vendor NVME\n product \".*\"\n failback {failback}\n }}\n")
    };
    let text = format!("devices {{\n {}{}}}\n", section("manual"), section("7"));
    assert_eq!(literal(&text, "failback").unwrap(), "7");
    let other = section("manual").replace(".*", ".+");
    let text = format!("devices {{\n {}{other}}}\n", section("7"));
    assert_eq!(literal(&text, "failback").unwrap(), "manual");
}

#[test]
fn a_number_of_checks_is_so_many_polling_intervals() {
    let text = "defaults {\n polling_interval 3\n no_path_retry 12\n}\n";
    assert_eq!(literal(text, "no_path_retry").unwrap(), "36s");
    let text = "defaults {\n polling_interval 30\n max_polling_interval 10\n no_path_retry 2\n}\n";
    assert_eq!(literal(text, "no_path_retry").unwrap(), "20s");
    let text = "defaults {\n features \"1 queue_if_no_path\"\n}\n";
    assert_eq!(literal(text, "no_path_retry").unwrap(), "queue");
    assert_eq!(literal("", "no_path_retry").unwrap(), "fail");
}

#[test]
fn failback_keeps_what_the_file_says() {
    for word in ["manual", "immediate", "followover", "30"] {
        let text = format!("overrides {{\n failback {word}\n}}\n");
        assert_eq!(literal(&text, "failback").unwrap(), word);
    }
}

#[test]
fn three_damping_families_become_one() {
    let flaps = |text: &str| {
        let text = format!("overrides {{\n{text}}}\n");
        let ms = |key| literal(&text, key).unwrap_or_default();
        [
            ms("flap_threshold"),
            ms("flap_hold_ms"),
            ms("flap_forget_ms"),
        ]
    };
    let san =
        "san_path_err_threshold 4\nsan_path_err_recovery_time 60\nsan_path_err_forget_rate 3\n";
    assert_eq!(flaps(san), ["4", "60000", "15000"]);
    let marginal = "marginal_path_double_failed_time 30\nmarginal_path_err_recheck_gap_time 90\n";
    assert_eq!(flaps(marginal), ["2", "90000", "30000"]);
    let delay = "delay_watch_checks 4\ndelay_wait_checks 2\n";
    assert_eq!(flaps(delay), ["1", "40000", "20000"]);
    assert_eq!(
        flaps(&[san, marginal].concat()),
        flaps(marginal),
        "the strongest"
    );
}

#[test]
fn filters_become_ignore_entries_unless_they_keep_out_everything() {
    let ignored = |wwids: &[&str], exceptions: &[&str]| -> Vec<String> {
        let list = |name: &str, wwids: &[&str]| {
            let lines: Vec<_> = wwids.iter().map(|w| format!(" wwid {w:?}\n")).collect();
            format!("{name} {{\n{}}}\n", lines.concat())
        };
        let text = [
            list("blacklist", wwids),
            list("blacklist_exceptions", exceptions),
        ];
        let toml = toml(&text.concat(), Mode::Literal);
        let entries = toml.get("ignore").and_then(toml::Value::as_array).cloned();
        let shown = |entry: toml::Value| {
            let except = entry.get("except").map_or("", |_| "not ");
            format!("{except}{}", entry["wwid"].as_str().unwrap())
        };
        entries.unwrap_or_default().into_iter().map(shown).collect()
    };
    let one = "^eui.0025385b71b00a01$";
    assert_eq!(ignored(&[one], &[]), [one]);
    assert_eq!(
        ignored(&[".*"], &[one]),
        [".*".into(), format!("not {one}")]
    );
    for scsi in [&[][..], &["^3600144f.*"], &["!^(eui|uuid)"]] {
        let nothing: [&str; 0] = [];
        assert_eq!(ignored(&[".*"], scsi), nothing, "that is about SCSI disks");
    }
    assert_eq!(ignored(&["!^uuid"], &[]), ["!^uuid"], "all but these");
    let scsi = "3600508b4000156d700012000000b0000";
    assert_eq!(ignored(&[scsi, "^eui"], &[scsi]), ["^eui"]);
    let device = "blacklist {\n device {\n vendor NVME\n product \"^PVL-\"\n }\n device {\n \
                  vendor IBM\n product X\n }\n}\nblacklist_exceptions {\n device {\n vendor \
                  \"NVM.\"\n product MX09\n }\n}\n";
    let models = toml(device, Mode::Literal)["ignore"].clone();
    assert_eq!(models[0]["model"].as_str(), Some("^PVL-"));
    assert_eq!(models[1]["model"].as_str(), Some("MX09"));
    assert_eq!(models[1]["except"].as_bool(), Some(true));
    assert_eq!(models.as_array().unwrap().len(), 2);
}

/// Regression: these sections and values were lost in intended mode too.
#[test]
fn what_multipathd_drops_for_its_spelling_is_kept_in_intended_mode() {
    let star = "devices {\n device {\n vendor NVME\n product \"*\"\n failback manual\n }\n}\n";
    assert_eq!(literal(star, "failback").unwrap(), "immediate");
    assert_eq!(intended(star, "failback").unwrap(), "manual");
    let selector = |value: &str| format!("defaults {{\n path_selector {value}\n}}\n");
    for value in ["queue-length", "Queue-Length", "\"queue-length 0 more\""] {
        let text = selector(value);
        assert_eq!(intended(&text, "path_selector").unwrap(), "queue-length 0");
        assert_eq!(literal(&text, "path_selector").unwrap(), "service-time 0");
        let findings = import(text.as_bytes(), None, Mode::Intended).findings;
        let said = |rule: &str| {
            findings
                .iter()
                .any(|f| f.rule.name() == rule && f.line == Some(2))
        };
        assert!(said("bad-value") && said("intended"), "{findings:?}");
    }
    let text = "defaults {\n no_path_retry FAIL\n failback Manual\n}\n";
    assert_eq!(intended(text, "failback").unwrap(), "manual");
    assert_eq!(
        intended(&selector("fastest"), "path_selector").unwrap(),
        "service-time 0"
    );
}
