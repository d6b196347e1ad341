//! Carrying out the host's orders, and bringing it the end of what takes time.

use std::rc::Rc;

use umpath_core::{AssociationId, LaneCommand};
use umpath_host::path::Path;
use umpath_host::record::RecordKey;
use umpath_host::{Host, Order, PathSpec, Remains, Request, VolumeKey};

use super::{Ending, Inside, LaneAt, PathActor, Port, SimQp, Work, route_of, words};
use crate::sim::checker::Violation;
use crate::sim::clock::{MICRO, Nanos, duration, nanos};
use crate::sim::mutant::Mutant;
use crate::sim::qp::HostEnd;
use crate::sim::world::World;

impl World {
    /// Something is handled by the host, and everything it orders is carried out.
    pub(crate) fn tell_host(&mut self, handle: impl FnOnce(&mut Host, std::time::Duration)) {
        handle(&mut self.host.core, duration(self.now));
        self.pump_host();
    }

    /// Carries out everything the host wants done, and sets its timer.
    pub(crate) fn pump_host(&mut self) {
        if !self.host.alive {
            return;
        }
        while let Some(order) = self.host.core.poll_order() {
            if let Some(left) = &mut self.host.orders_left {
                if *left == 0 {
                    return self.kill_host();
                }
                *left -= 1;
            }
            self.note(|| format!("host: {}", words::of_order(&order)));
            let order = self.seam_order(order);
            self.carry_out(order);
            if self.violation.is_some() || !self.host.alive {
                return;
            }
        }
        if self.host.core.is_over() {
            return self.end_process();
        }
        self.set_host_timer();
    }

    fn set_host_timer(&mut self) {
        let Some(due) = self.host.core.poll_timeout().map(nanos) else {
            return;
        };
        let (now, life) = (self.now, self.host.life);
        let timer = &mut self.host.timer;
        if timer.is_none_or(|timer| due < timer) {
            let at = due.max(now);
            *timer = Some(at);
            self.inside(at, life, Inside::HostTimer(at));
        }
    }

    pub(crate) fn host_timer(&mut self, at: Nanos) {
        if self.host.timer != Some(at) {
            return;
        }
        self.host.timer = None;
        let now = duration(self.now);
        if !self.is(Mutant::HostTimerIgnored) || self.array_chance.percent(90) {
            self.host.core.handle_timeout(now);
        }
        self.pump_host();
        let due = self.host.core.poll_timeout();
        if self.host.alive && due.is_some_and(|due| due <= now) {
            let what = format!("(13) the host waits for {due:?}, which is over");
            self.fail(Violation(what));
        }
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::RunPath(spec) => self.run_path(*spec),
            Order::ToPath(path, request) => {
                self.judge_request(path, &request);
                for request in self.seam_to_path(path, request) {
                    self.send_request(path, request);
                }
            }
            Order::Lane {
                volume,
                queue,
                command,
            } => self.order_lane(volume, queue, command),
            Order::Destroy {
                association,
                remains,
                report,
            } => self.destroy(association, remains, report),
            Order::Record {
                path,
                association,
                record,
            } => self.on_disk(Work::Record {
                path,
                association,
                record,
            }),
            Order::Forget(key) => self.forget(&key),
            Order::Build(spec) => self.begin(Work::Build(spec)),
            Order::Recover {
                spec,
                device,
                cookie,
            } => self.begin(Work::Recover {
                spec,
                device,
                cookie,
            }),
            Order::FindDevice(record) => self.begin(Work::Find(record)),
            Order::Register {
                volume,
                association,
            } => {
                self.must_serve(volume, "registers memory of");
                if !self.host.held.contains_key(&association) {
                    self.absurd(&format!(
                        "memory is registered with {association}, which is gone"
                    ));
                }
                // What is deregistered later is so after this.
                if let Some(device) = self.served(volume) {
                    self.host.registered.insert((device, association));
                }
                self.begin(Work::Register(volume, association));
            }
            Order::Unregister(volume) => {
                self.must_serve(volume, "unregisters");
                if let Some(device) = self.host.served.remove(&volume) {
                    self.host.registered.retain(|(known, _)| *known != device);
                }
            }
            Order::Start(volume) => {
                self.must_serve(volume, "starts");
                self.begin(Work::Start(volume));
            }
            Order::FindUsers { removal, volumes } => {
                let ids = volumes.into_iter().map(|(id, _)| id).collect();
                self.begin(Work::FindUsers(removal, ids));
            }
            Order::Remove {
                removal,
                volume,
                force,
            } => {
                self.must_serve(volume, "removes");
                self.begin(Work::Remove {
                    removal,
                    volume,
                    force,
                });
            }
            Order::Discard(volume) => {
                self.must_serve(volume, "discards");
                self.let_go(volume, Ending::Discarded);
            }
            Order::Abandon(volume) => {
                self.must_serve(volume, "abandons");
                self.let_go(volume, Ending::Abandoned);
            }
            Order::Sweep(record) => {
                if let Some(device) = self.device_of(record.device, record.cookie) {
                    let since = &mut self.devices[device].dying_since;
                    *since = if *since == 0 { self.now } else { *since };
                }
                self.begin(Work::Sweep(record));
            }
            Order::DeleteOrphan { device, .. } => {
                self.absurd(&format!("device {device} is deleted as an orphan"));
            }
            Order::ForgetVolume(record) => self.disk.forget_volume(record.id, record.cookie),
            Order::Rewrite(record) => {
                self.disk.later.push_back(*record);
                self.on_disk(Work::Rewrite);
            }
            Order::SaveNames(names) => self.disk.names = names,
            Order::SaveNumbers(numbers) => {
                self.disk.promised.clone_from(&numbers);
                if !self.is(Mutant::NumbersForgotten) {
                    self.disk.numbers = numbers;
                }
            }
            Order::Answer(call, answer) => self.answer_call(call, &answer),
            Order::LeaveToSuccessor(why) => {
                self.note(|| why);
                self.kill_host();
            }
        }
    }

    /// An order that cannot be carried out.
    pub(super) fn absurd(&mut self, what: &str) {
        self.fail(Violation(format!("(16) {what}")));
    }

    pub(super) fn served(&self, volume: VolumeKey) -> Option<usize> {
        self.host.served.get(&volume).copied()
    }

    fn must_serve(&mut self, volume: VolumeKey, does: &str) {
        if self.served(volume).is_none() {
            self.absurd(&format!(
                "the host {does} volume {volume}, which is not there"
            ));
        }
    }

    fn run_path(&mut self, spec: PathSpec) {
        let (id, route) = (spec.id, route_of(spec.traddr.ip()));
        if self
            .host
            .paths
            .get(&id)
            .is_some_and(|path| !path.core.is_over())
        {
            return self.absurd(&format!("path {id} is run twice"));
        }
        let random = self.host_chance.draw();
        let numbers = self.host.numbers.clone();
        let actor = PathActor {
            core: Path::new(spec, numbers, random, duration(self.now)),
            route,
            shut_down: false,
            qps: Vec::new(),
            watches: None,
            inbox_at: 0,
            outbox_at: 0,
            timer: None,
        };
        self.host.paths.insert(id, actor);
        self.pump_path(id);
    }

    pub(crate) fn send_request(&mut self, path: u32, request: Request) {
        let delay = self.fabric_chance.tail(MICRO, self.plan.message_delay);
        let (now, life) = (self.now, self.host.life);
        // A path that has ended needs to hear nothing.
        let Some(actor) = self.host.paths.get_mut(&path) else {
            return;
        };
        actor.inbox_at = actor.inbox_at.max(now + delay);
        let at = actor.inbox_at;
        self.inside(at, life, Inside::ToPath(path, Box::new(request)));
    }

    fn order_lane(&mut self, volume: VolumeKey, queue: u16, command: LaneCommand<u16>) {
        let Some(device) = self.served(volume) else {
            return self.absurd(&format!("a queue thread of {volume} is told something"));
        };
        let at = LaneAt {
            device,
            queue: usize::from(queue),
        };
        if self.lane(at).is_none() {
            return self.absurd(&format!("{at} is told something, which is not there"));
        }
        self.judge_order(device, &command);
        let command = match command {
            LaneCommand::Attach {
                path,
                association,
                transport: qid,
            } => {
                let Some(transport) = self.take_spare(at, association, qid) else {
                    let what =
                        format!("queue {qid} of {association} is attached, which is not spare");
                    return self.absurd(&what);
                };
                LaneCommand::Attach {
                    path,
                    association,
                    transport,
                }
            }
            LaneCommand::SetTable(table) => LaneCommand::SetTable(table),
            LaneCommand::GiveUpQueue(association) => LaneCommand::GiveUpQueue(association),
            LaneCommand::Convict(association) => LaneCommand::Convict(association),
            LaneCommand::Destroyed(association) => LaneCommand::Destroyed(association),
            LaneCommand::Guard(ghosts) => LaneCommand::Guard(ghosts),
            LaneCommand::Locked(association) => LaneCommand::Locked(association),
            LaneCommand::Fenced(association) => LaneCommand::Fenced(association),
            LaneCommand::FailQueued => LaneCommand::FailQueued,
            LaneCommand::Close => LaneCommand::Close,
            LaneCommand::Snapshot => LaneCommand::Snapshot,
            LaneCommand::Stop => LaneCommand::Stop,
        };
        for command in self.seam_to_lane(at, command) {
            self.send_command(at, command);
        }
    }

    fn take_spare(&mut self, at: LaneAt, association: AssociationId, qid: u16) -> Option<SimQp> {
        let spare = self.host.held.get_mut(&association)?;
        let place = spare.iter().position(|(known, _)| *known == qid)?;
        let (_, qp) = spare.swap_remove(place);
        self.fences.used(self.host.assoc(association));
        let port = Rc::new(Port::default());
        let lost = self.fabric_chance.percent(self.plan.lost_markers);
        let stubborn = self.fabric_chance.percent(self.plan.lost_markers / 2);
        port.stubborn.set(stubborn);
        port.trusted.set(self.is(Mutant::SilenceTrusted));
        let known = &mut self.qps[qp];
        if known.host != HostEnd::Open {
            // It broke while nobody had it.
            port.disconnected.set(true);
        }
        known.marker_lost = lost;
        known.lane = Some(at);
        known.port = Some(Rc::clone(&port));
        Some(SimQp::new(qp, port, known.depth, Rc::clone(&self.log)))
    }

    /// Destroys queue pairs, which blocks.
    fn destroy(&mut self, association: AssociationId, remains: Remains, report: bool) {
        let spare = match remains {
            Remains::Spare => {
                let gone = |(_, known): &(usize, AssociationId)| *known != association;
                self.host.registered.retain(gone);
                self.host.held.remove(&association).unwrap_or_default()
            }
            Remains::Lane(..) => Vec::new(),
        };
        let handed_back = self.host.handed_back.remove(&(association, remains));
        let qps = spare
            .into_iter()
            .map(|(_, qp)| qp)
            .chain(handed_back)
            .collect();
        let work = Work::Destroy {
            association,
            remains,
            report,
            qps,
        };
        let late = self.host_chance.percent(10);
        let most = if late { 10 } else { 1 } * self.plan.work_delay;
        let takes = self.host_chance.tail(10 * MICRO, most);
        self.work(takes, work);
    }

    fn forget(&mut self, key: &RecordKey) {
        let assoc = match key {
            RecordKey::Own(association) => self.host.assoc(*association),
            RecordKey::Inherited(number) => match self.host.inherited.get(number) {
                Some(assoc) => *assoc,
                None => {
                    return self.absurd(&format!("record {number} is forgotten, which is none"));
                }
            },
        };
        self.fence_stands(assoc);
        self.on_disk(Work::Forget(assoc));
    }
}
