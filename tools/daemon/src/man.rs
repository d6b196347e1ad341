//! The pages of `umpathd` and of its configuration file.

use std::io;

use clap::CommandFactory as _;
use umpath_man::{Page, Program, of_file, of_program};

use crate::args::Args;
use crate::config::DOCUMENTED;

/// What the grammar does not tell.
const SECTIONS: &[(&str, &str)] = &[
    (
        "SIGNALS",
        "SIGTERM, SIGINT: end in order. Volumes that nobody uses are removed, others are served until they \
         are unused.\nThe same again: end at once. Volumes in use stay, and their I/O waits for the next \
         umpathd.",
    ),
    (
        "FILES",
        "/etc/umpath/umpath.toml, /etc/umpath/conf.d/*.toml: the configuration.\n\
         /etc/nvme/hostnqn, /etc/nvme/hostid, /etc/nvme/discovery.conf: as nvme-cli has them.\n\
         /var/lib/umpath: what must survive a restart.\n\
         /run/umpath/umpathd.sock: where umpath(8) asks.",
    ),
];

/// All of them.
pub(crate) fn pages() -> io::Result<Vec<Page>> {
    let mut pages = of_program(Program {
        command: Args::command(),
        sections: SECTIONS,
        see_also: &["umpath(8)", "umpath.toml(5)"],
    })?;
    pages.push(of_file(
        "umpath.toml",
        env!("CARGO_PKG_VERSION"),
        "configuration of umpathd",
        DOCUMENTED,
        "umpathd(8), umpath-config(8)",
    )?);
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use umpath_man::{Kind, Line, blocks};

    fn keys(config: &str, section: &str) -> BTreeSet<String> {
        let table: toml::Table = config.parse().unwrap();
        table[section].as_table().unwrap().keys().cloned().collect()
    }

    #[test]
    fn there_is_a_page_for_the_program_and_one_for_its_file() {
        let pages = pages().unwrap();
        let names: Vec<&str> = pages.iter().map(|page| page.name.as_str()).collect();
        assert_eq!(names, ["umpathd.8", "umpath.toml.5"]);
        let text = String::from_utf8(pages[1].roff.clone()).unwrap();
        for section in [
            "[control]",
            "[defaults]",
            "[[connect]]",
            "[[device]]",
            "[[volume]]",
        ] {
            assert!(text.contains(&format!(".SH {section}\n")), "{section}");
        }
    }

    #[test]
    fn every_key_is_explained_on_the_page() {
        let mut config = crate::config::Config::default();
        config.defaults.ctrl_loss_tmo_ms = Some(1);
        config.defaults.quiesce_floor_ms = Some(1);
        config.control.group = Some("disk".into());
        let config = config.to_toml();
        let mut expected = keys(&config, "defaults");
        expected.extend(keys(&config, "control"));
        let mut explained = BTreeSet::new();
        for block in blocks(DOCUMENTED) {
            let lines = block.lines.iter().filter(|line| line.kind != Kind::Example);
            let keys: Vec<String> = lines.filter_map(Line::key).map(str::to_owned).collect();
            assert!(
                keys.is_empty() || !block.words.is_empty(),
                "{keys:?} without a word"
            );
            explained.extend(keys);
        }
        assert_eq!(explained, expected);
    }
}
