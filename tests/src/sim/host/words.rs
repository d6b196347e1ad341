//! Messages in words, for the trace.

use umpath_core::LaneCommand;
use umpath_host::{LaneNews, Order, Report, Request};

pub(super) fn of_order(order: &Order) -> String {
    match order {
        Order::RunPath(spec) => format!("run path {} to {}", spec.id, spec.traddr),
        Order::Lane {
            volume: _,
            queue,
            command,
        } => format!("lane {queue}: {}", of_command(command)),
        Order::ToPath(path, Request::Serves(association, number, _)) => {
            format!("path {path}: {association} serves as {number:?}")
        }
        Order::Build(spec) => format!("build {}", spec.name),
        Order::Recover { spec, device, .. } => format!("recover {} as {device}", spec.name),
        Order::Rewrite(record) => format!(
            "rewrite {}: {} blocks, {} paths",
            record.name,
            record.namespace.blocks,
            record.paths.len()
        ),
        Order::FindDevice(record) => format!("find device {} of {}", record.device, record.name),
        Order::Record { association, .. } => format!("record {association}"),
        other => format!("{other:?}"),
    }
}

pub(super) fn of_report(report: &Report) -> String {
    match report {
        Report::Up(up) => format!("association {} up", up.association),
        Report::Ana(association, _) => format!("ANA of {association}"),
        other => format!("{other:?}"),
    }
}

pub(super) fn of_news(news: &LaneNews) -> String {
    match news {
        LaneNews::Stats(_) => "counters".to_owned(),
        other => format!("{other:?}"),
    }
}

pub(super) fn of_command<T>(command: &LaneCommand<T>) -> String {
    match command {
        LaneCommand::Attach {
            path, association, ..
        } => format!("attach {association} as {path:?}"),
        LaneCommand::SetTable(table) => {
            let usable = table.paths.iter().filter(|entry| entry.usable);
            let usable: Vec<u8> = usable.map(|entry| entry.path.0).collect();
            let (generation, active) = (table.generation, table.active);
            format!(
                "table {generation}: usable {usable:?}, active {active:?}, {:?}",
                table.on_no_path
            )
        }
        LaneCommand::GiveUpQueue(association) => format!("give up the queue of {association}"),
        LaneCommand::Convict(association) => format!("convict {association}"),
        LaneCommand::Destroyed(association) => format!("destroyed {association}"),
        LaneCommand::Guard(table) => {
            let ghosts = table.ghosts().map(|g| format!("{}+{}", g.lba, g.blocks));
            let ghosts: Vec<String> = ghosts.collect();
            format!("guard {} [{}]", table.generation(), ghosts.join(" "))
        }
        LaneCommand::Locked(association) => format!("locked {association}"),
        LaneCommand::Fenced(association) => format!("fenced {association}"),
        LaneCommand::FailQueued => "fail what waits".to_owned(),
        LaneCommand::Close => "close".to_owned(),
        LaneCommand::Snapshot => "snapshot".to_owned(),
        LaneCommand::Stop => "stop".to_owned(),
    }
}
