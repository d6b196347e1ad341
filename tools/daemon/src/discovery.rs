//! Reading the discovery log of a portal.

use std::time::Duration;

use umpath_host::path::explain;
use umpath_nvme::Nqn;
use umpath_protocol::{ConnectOptions, DiscoveryListing, DiscoveryRecord, Failure, Portal};
use umpath_session::{self as session, Discovery, Event, SessionOutput};

use crate::association::{Driver, Happened, release};
use crate::clock;
use crate::config::{Config, parse_portal};
use crate::identity::Identity;
use crate::spec::{connect_params, presented_host, session_config};

/// Resolves names to addresses, which may take as long as the name server does.
pub(crate) async fn resolve(portal: &Portal) -> Result<Portal, String> {
    let portal = portal.clone();
    let work = tokio::task::spawn_blocking(move || {
        let (traddr, host_traddr) = parse_portal(&portal)?;
        Ok(Portal {
            traddr: traddr.ip().to_string(),
            trsvcid: Some(traddr.port().to_string()),
            host_traddr: host_traddr.map(|address| address.to_string()),
            host_iface: None,
            ..portal
        })
    });
    match work.await {
        Ok(outcome) => outcome,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Reads the discovery log of `portal`.
pub(crate) async fn discover(
    portal: &Portal,
    options: &ConnectOptions,
    config: &Config,
    host: &Identity,
) -> Result<session::DiscoveryLog, Failure> {
    let refused = |why: String| {
        let fix = "umpath discover -t rdma -a ADDRESS [-s PORT]";
        Failure::new(format!("cannot discover at {}", portal.traddr), why, fix)
    };
    let portal = &resolve(portal).await.map_err(refused)?;
    let (traddr, host_traddr) = parse_portal(portal).map_err(refused)?;
    let host = presented_host(options, host).map_err(refused)?;
    // Options for I/O queues and keep-alive do not apply to a discovery controller.
    let plain = ConnectOptions::default();
    let settings = session_config(&plain, &config.defaults, &host, Nqn::discovery());
    let settings = settings.map_err(refused)?;
    let discovery = Discovery::with_config(settings, clock::now())
        .map_err(|error| refused(error.to_string()))?;
    let params = connect_params(&config.defaults, traddr, host_traddr);
    let driver = Driver::new(params).map_err(|error| refused(error.to_string()))?;
    read(
        discovery,
        driver,
        Duration::from_millis(config.defaults.drain_deadline_ms),
    )
    .await
    .map_err(|error| explain("discover", &format!("rdma,{traddr}"), &error))
}

/// Runs the session to its end.
async fn read(
    mut session: Discovery,
    mut driver: Driver,
    drain_deadline: Duration,
) -> Result<session::DiscoveryLog, session::SessionError> {
    let mut log = session::DiscoveryLog::default();
    let outcome = 'session: loop {
        while let Some(output) = session.poll_output() {
            match output {
                SessionOutput::OpenQueue { qid, cntlid, depth } => {
                    driver.open(qid, cntlid, depth, 0);
                }
                SessionOutput::Send { qid, sqe, data } => driver.send(qid, sqe, &data),
                SessionOutput::CloseQueue { qid } => driver.close(qid),
                SessionOutput::Event(Event::Discovered(found)) => log = found,
                SessionOutput::Event(Event::Closed { .. }) => break 'session Ok(log),
                SessionOutput::Event(Event::Failed(error)) => break 'session Err(error),
                SessionOutput::Event(_) | SessionOutput::CloseAll => {}
            }
        }
        let happened = tokio::select! {
            biased;
            happened = driver.next() => Some(happened),
            () = clock::due(session.poll_timeout()) => None,
        };
        let now = clock::now();
        match happened {
            Some(Happened::Connected(qid)) => session.handle_queue_connected(qid, now),
            Some(Happened::Failed(qid, source)) => session.handle_queue_failed(qid, source),
            Some(Happened::Response { qid, cqe, data }) => {
                session.handle_response(qid, &cqe, &data, now);
            }
            None => session.handle_timeout(now),
        }
    };
    tokio::spawn(release(driver.halt(), drain_deadline));
    outcome
}

/// The log in the form sent to the command line.
pub(crate) fn listing(portal: &Portal, log: &session::DiscoveryLog) -> DiscoveryListing {
    let service = portal.trsvcid.as_deref().unwrap_or("4420");
    DiscoveryListing {
        portal: format!("{},{}:{service}", portal.transport, portal.traddr),
        genctr: log.generation,
        records: log.records.iter().map(record).collect(),
    }
}

fn record(record: &session::DiscoveryRecord) -> DiscoveryRecord {
    let [qp_type, provider, cms, ..] = record.tsas;
    DiscoveryRecord {
        trtype: word(
            record.trtype,
            &[(1, "rdma"), (2, "fc"), (3, "tcp"), (254, "loop")],
        ),
        adrfam: word(
            record.adrfam,
            &[
                (1, "ipv4"),
                (2, "ipv6"),
                (3, "infiniband"),
                (4, "fibre-channel"),
                (254, "loop"),
            ],
        ),
        subtype: word(
            record.subtype,
            &[
                (1, "discovery subsystem referral"),
                (2, "nvme subsystem"),
                (3, "current discovery subsystem"),
            ],
        ),
        treq: word(
            record.treq,
            &[
                (0, "not specified"),
                (1, "required"),
                (2, "not required"),
                (4, "not specified, sq flow control disable supported"),
                (5, "required, sq flow control disable supported"),
                (6, "not required, sq flow control disable supported"),
            ],
        ),
        portid: record.portid,
        trsvcid: record.trsvcid.clone(),
        subnqn: record.subnqn.to_string(),
        traddr: record.traddr.clone(),
        eflags: match record.eflags & 3 {
            0 => "none",
            1 => "duplicate discovery information",
            2 => "explicit discovery connections",
            _ => "explicit discovery connections, duplicate discovery information",
        }
        .to_owned(),
        rdma_prtype: word(
            provider,
            &[
                (1, "not specified"),
                (2, "infiniband"),
                (3, "roce"),
                (4, "roce-v2"),
                (5, "iwarp"),
            ],
        ),
        rdma_qptype: word(qp_type, &[(1, "connected"), (2, "datagram")]),
        rdma_cms: word(cms, &[(1, "rdma-cm")]),
        rdma_pkey: 0,
    }
}

fn word(number: u8, words: &[(u8, &str)]) -> String {
    let known = words.iter().find(|(known, _)| *known == number);
    known.map_or("unrecognized", |(_, word)| word).to_owned()
}

/// The paths a log offers to a host that asked `portal`: NVM subsystems on RDMA, each at the
/// address in its record.
pub(crate) fn offers(portal: &Portal, log: &session::DiscoveryLog) -> Vec<(Portal, String)> {
    log.records
        .iter()
        .filter(|record| record.trtype == 1 && record.subtype == 2)
        .map(|record| {
            let at = Portal {
                transport: "rdma".to_owned(),
                traddr: record.traddr.clone(),
                trsvcid: Some(record.trsvcid.clone()),
                host_traddr: portal.host_traddr.clone(),
                host_iface: portal.host_iface.clone(),
            };
            (at, record.subnqn.to_string())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn portal() -> Portal {
        Portal {
            transport: "rdma".into(),
            traddr: "10.0.0.1".into(),
            trsvcid: None,
            host_traddr: None,
            host_iface: None,
        }
    }

    fn entry(trtype: u8, subtype: u8) -> session::DiscoveryRecord {
        session::DiscoveryRecord {
            trtype,
            adrfam: 1,
            subtype,
            treq: 0,
            portid: 1,
            cntlid: 0xffff,
            admin_entries: 32,
            eflags: 0,
            trsvcid: "4421".into(),
            subnqn: Nqn::new("nqn.2026-11.example:a").unwrap(),
            traddr: "10.0.0.2".into(),
            tsas: [1, 4, 1, 0, 0, 0, 0, 0],
        }
    }

    #[test]
    fn only_subsystems_on_rdma_are_offers() {
        let records = vec![entry(1, 2), entry(3, 2), entry(1, 3), entry(1, 1)];
        let log = session::DiscoveryLog {
            generation: 1,
            records,
            ..Default::default()
        };
        let offers = offers(&portal(), &log);
        assert_eq!(offers.len(), 1);
        assert_eq!(offers[0].0.trsvcid.as_deref(), Some("4421"));
        assert_eq!(offers[0].0.traddr, "10.0.0.2");
    }

    #[test]
    fn records_are_put_in_words() {
        let log = session::DiscoveryLog {
            generation: 7,
            records: vec![entry(1, 2), entry(9, 9)],
            ..Default::default()
        };
        let listing = listing(&portal(), &log);
        assert_eq!(listing.portal, "rdma,10.0.0.1:4420");
        assert_eq!(listing.records[0].rdma_prtype, "roce-v2");
        assert_eq!(listing.records[1].trtype, "unrecognized");
    }
}
