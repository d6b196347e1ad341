//! `/etc/nvme/discovery.conf`: nvme-cli's file, one set of `nvme discover` options per line.

use std::path::Path;

use umpath_protocol::{ConnectOptions, Portal};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DiscoveryLine {
    /// The discovery controller.
    pub(crate) portal: Portal,
    /// Options for connecting the subsystems found there.
    pub(crate) options: ConnectOptions,
}

/// Reads and parses the file.
pub(crate) fn read_discovery_conf(path: &Path) -> Result<Vec<DiscoveryLine>, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let lines = parse(&text).map_err(|why| format!("{}: {why}", path.display()))?;
    if lines.is_empty() {
        return Err(format!("{} names no portal", path.display()));
    }
    Ok(lines)
}

fn parse(text: &str) -> Result<Vec<DiscoveryLine>, String> {
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            lines.push(parse_line(line).map_err(|why| format!("line {}: {why}", index + 1))?);
        }
    }
    Ok(lines)
}

fn parse_line(line: &str) -> Result<DiscoveryLine, String> {
    let mut portal = Portal {
        transport: "rdma".to_owned(),
        traddr: String::new(),
        trsvcid: None,
        host_traddr: None,
        host_iface: None,
    };
    let mut options = ConnectOptions::default();
    let mut words = line.split_whitespace();
    while let Some(word) = words.next() {
        let (flag, inline) = match word.split_once('=') {
            Some((flag, value)) => (flag, Some(value)),
            None => (word, None),
        };
        let mut value = || {
            inline
                .or_else(|| words.next())
                .map(str::to_owned)
                .ok_or(format!("{flag} has no value"))
        };
        let number = |text: String| {
            text.parse::<u32>()
                .map_err(|_| format!("{flag} {text} is not a number"))
        };
        match flag {
            "-t" | "--transport" => portal.transport = value()?,
            "-a" | "--traddr" => portal.traddr = value()?,
            "-s" | "--trsvcid" => portal.trsvcid = Some(value()?),
            "-w" | "--host-traddr" => portal.host_traddr = Some(value()?),
            "-f" | "--host-iface" => portal.host_iface = Some(value()?),
            "-q" | "--hostnqn" => options.hostnqn = Some(value()?),
            "-I" | "--hostid" => options.hostid = Some(value()?),
            "-i" | "--nr-io-queues" => options.nr_io_queues = Some(number(value()?)? as u16),
            "-Q" | "--queue-size" => options.queue_size = Some(number(value()?)? as u16),
            "-k" | "--keep-alive-tmo" => {
                options.kato_ms = Some(number(value()?)?.saturating_mul(1000));
            }
            "-c" | "--reconnect-delay" => {
                options.reconnect_delay_ms = Some(u64::from(number(value()?)?) * 1000);
            }
            "-l" | "--ctrl-loss-tmo" => {
                let text = value()?;
                if text != "-1" {
                    options.ctrl_loss_tmo_ms = Some(u64::from(number(text)?) * 1000);
                }
            }
            // Options that only the kernel's initiator uses.
            "-p" | "--persistent" | "-G" | "--hdr-digest" | "-D" | "--data-digest" => {}
            _ => return Err(format!("option {flag} is not understood")),
        }
    }
    if portal.traddr.is_empty() {
        return Err("no --traddr".to_owned());
    }
    Ok(DiscoveryLine { portal, options })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_options_are_read() {
        let lines = parse(
            "# portals\n\n--transport rdma --traddr 1.1.1.1 --trsvcid 4420\n\
             -t rdma -a 1.1.1.2 -k 5 -l -1 # second\n--transport=rdma --traddr=1.1.1.3\n",
        )
        .unwrap();
        let addresses: Vec<_> = lines
            .iter()
            .map(|line| line.portal.traddr.as_str())
            .collect();
        assert_eq!(addresses, ["1.1.1.1", "1.1.1.2", "1.1.1.3"]);
        assert_eq!(lines[0].portal.trsvcid.as_deref(), Some("4420"));
        assert_eq!(lines[1].options.kato_ms, Some(5000));
        assert_eq!(lines[1].options.ctrl_loss_tmo_ms, None);
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        assert_eq!(
            parse("\n--transport rdma\n").unwrap_err(),
            "line 2: no --traddr"
        );
        assert!(
            parse("-a 1.1.1.1 --frobnicate\n")
                .unwrap_err()
                .contains("--frobnicate")
        );
        assert!(parse("-a\n").unwrap_err().contains("no value"));
        assert!(
            parse("-a 1.1.1.1 -k x\n")
                .unwrap_err()
                .contains("not a number")
        );
    }
}
