//! Discovery logs in nvme-cli's layout.

use std::fmt::Write as _;

use serde_json::{Value, json};
use umpath_protocol::{DiscoveryListing, DiscoveryRecord, VERSION};

use super::json::pretty;

/// The output of `nvme discover`.
pub(super) fn text(logs: &[DiscoveryListing]) -> String {
    let mut out = String::new();
    for log in logs {
        let _ = writeln!(
            out,
            "\nDiscovery Log Number of Records {}, Generation counter {}",
            log.records.len(),
            log.genctr,
        );
        for (index, record) in log.records.iter().enumerate() {
            entry(&mut out, index, record);
        }
    }
    out
}

fn entry(out: &mut String, index: usize, record: &DiscoveryRecord) {
    let _ = writeln!(out, "=====Discovery Log Entry {index}======");
    let _ = writeln!(out, "trtype:  {}", record.trtype);
    let _ = writeln!(out, "adrfam:  {}", record.adrfam);
    let _ = writeln!(out, "subtype: {}", record.subtype);
    let _ = writeln!(out, "treq:    {}", record.treq);
    let _ = writeln!(out, "portid:  {}", record.portid);
    let _ = writeln!(out, "trsvcid: {}", record.trsvcid);
    let _ = writeln!(out, "subnqn:  {}", record.subnqn);
    let _ = writeln!(out, "traddr:  {}", record.traddr);
    let _ = writeln!(out, "eflags:  {}", record.eflags);
    if record.trtype == "rdma" {
        let _ = writeln!(out, "rdma_prtype: {}", record.rdma_prtype);
        let _ = writeln!(out, "rdma_qptype: {}", record.rdma_qptype);
        let _ = writeln!(out, "rdma_cms:    {}", record.rdma_cms);
        let _ = writeln!(out, "rdma_pkey: {:#06x}", record.rdma_pkey);
    }
}

/// nvme-cli's JSON: one object per portal, under `logs` if several were asked.
pub(super) fn json(logs: &[DiscoveryListing]) -> String {
    match logs {
        [log] => {
            let mut value = listing(log);
            value["version"] = json!(VERSION);
            pretty(&value)
        }
        logs => pretty(
            &json!({ "version": VERSION, "logs": logs.iter().map(listing).collect::<Vec<_>>() }),
        ),
    }
}

fn listing(log: &DiscoveryListing) -> Value {
    json!({ "device": log.portal, "genctr": log.genctr, "records": log.records })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> DiscoveryListing {
        DiscoveryListing {
            portal: "rdma,192.168.1.1:4420".into(),
            genctr: 1,
            records: vec![DiscoveryRecord {
                trtype: "rdma".into(),
                adrfam: "ipv4".into(),
                subtype: "nvme subsystem".into(),
                treq: "not specified".into(),
                portid: 20,
                trsvcid: "4420".into(),
                subnqn: "GB00051104bbf912".into(),
                traddr: "192.168.1.1".into(),
                eflags: "none".into(),
                rdma_prtype: "not specified".into(),
                rdma_qptype: "connected".into(),
                rdma_cms: "rdma-cm".into(),
                rdma_pkey: 0,
            }],
        }
    }

    #[test]
    fn the_layout_is_nvme_clis() {
        let text = text(&[log()]);
        assert!(text.starts_with(
            "\nDiscovery Log Number of Records 1, Generation counter 1\n\
             =====Discovery Log Entry 0======\ntrtype:  rdma\n"
        ));
        assert!(text.contains("\nsubnqn:  GB00051104bbf912\n"));
        assert!(text.ends_with("rdma_pkey: 0x0000\n"));
    }

    #[test]
    fn json_has_records_at_the_root() {
        let value: Value = serde_json::from_str(&json(&[log()])).unwrap();
        assert_eq!(value["records"][0]["subnqn"], "GB00051104bbf912");
        assert_eq!(value["version"], 1);
    }
}
