//! What the rig does with orders, and how it finishes what it has begun.

use super::*;

impl Rig {
    pub(super) fn carry_out(&mut self, order: Order) {
        match order {
            Order::RunPath(spec) => self.specs.push(*spec),
            Order::ToPath(path, request) => self.requests.push((path, request)),
            Order::Lane {
                volume,
                queue,
                command,
            } => self.lane(volume, queue, command),
            Order::Destroy {
                association,
                remains,
                report,
            } => {
                self.destroyed.push((association, remains));
                if remains == Remains::Spare {
                    self.held.remove(&association);
                    self.registered.retain(|(_, known)| *known != association);
                }
                if report {
                    self.done.push_back(Done::Destroyed(association, remains));
                }
            }
            Order::Record {
                path,
                association,
                record,
            } => {
                self.done
                    .push_back(Done::Recorded(path, association, record));
            }
            Order::Forget(key) => {
                let key = match key {
                    RecordKey::Own(association) => association.0,
                    RecordKey::Inherited(number) => self.inherited[number as usize],
                };
                self.disk.associations.remove(&key);
            }
            Order::FindDevice(record) => self.done.push_back(Done::Found(record)),
            Order::Build(spec) => self.done.push_back(Done::Built(spec, None)),
            Order::Recover { spec, device, .. } => {
                self.queues.insert(spec.key(), self.device_queues);
                self.done.push_back(Done::Built(spec, Some(device)));
            }
            Order::Register {
                volume,
                association,
            } => {
                let held = self.held.contains(&association);
                assert!(
                    held,
                    "memory is registered with {association}, which is gone"
                );
                self.registered.insert((volume, association));
                self.done.push_back(Done::Registered(volume, association));
            }
            Order::Start(volume) => self.done.push_back(Done::Started(volume)),
            Order::FindUsers { removal, volumes } => {
                let volumes = volumes.into_iter().map(|(id, _)| id).collect();
                self.done.push_back(Done::Users(removal, volumes));
            }
            Order::Remove {
                removal, volume, ..
            } => self.done.push_back(Done::Removed(removal, volume)),
            Order::Rewrite(record) => {
                if self.disk.volumes.contains_key(&record.id) && !self.failing.rewrite {
                    self.disk.volumes.insert(record.id, *record);
                }
            }
            Order::ForgetVolume(record) => drop(self.disk.volumes.remove(&record.id)),
            Order::SaveNames(names) => self.disk.names = names,
            Order::SaveNumbers(numbers) => self.disk.numbers = numbers,
            Order::Answer(call, answer) => {
                let before = self.answers.insert(call, answer);
                assert!(before.is_none(), "{call:?} is answered twice");
            }
            Order::LeaveToSuccessor(why) => self.successor.push(why),
            Order::DeleteOrphan { device, call } => {
                self.host
                    .handle_orphan_deleted(call, device, Ok(()), self.now);
            }
            Order::Discard(volume) => {
                self.dropped.insert(volume);
                self.done.push_back(Done::Discarded(volume));
            }
            Order::Unregister(volume) => self.registered.retain(|(known, _)| *known != volume),
            Order::Sweep(record) => self.done.push_back(Done::Swept(record.id)),
            Order::Abandon(_) => {}
        }
    }

    /// A block device goes, and its record.
    fn delete(&mut self, volume: StableId) {
        if let Some(record) = self.disk.volumes.remove(&volume) {
            self.disk.devices.remove(&record.device);
        }
    }

    /// The queue threads of a volume end in good order.
    fn end_lanes(&mut self, volume: VolumeKey) {
        self.dropped.remove(&volume);
        let held = self.attached.iter().filter(|(id, _)| *id == volume);
        let had: Vec<_> = held.map(|(_, association)| *association).collect();
        self.attached.retain(|(id, _)| *id != volume);
        for queue in 0..self.queues.remove(&volume).unwrap_or(0) {
            let news = LaneNews::Ended {
                had: had.clone(),
                failure: None,
            };
            self.host.handle_lane(volume, queue, news, self.now);
        }
    }

    fn lane(&mut self, volume: VolumeKey, queue: u16, command: LaneCommand<u16>) {
        assert!(
            !self.dropped.contains(&volume),
            "{command:?} to a queue thread of a dropped device"
        );
        if !self.queues.contains_key(&volume) {
            // The thread has ended.
            return;
        }
        let now = self.now;
        let mut tell = |news| self.host.handle_lane(volume, queue, news, now);
        match command {
            LaneCommand::SetTable(table) => {
                self.published.push(Arc::clone(&table));
                self.tables.insert(volume.id, table);
                self.told_tables.entry(volume.id).or_default().insert(queue);
            }
            LaneCommand::Snapshot => self.done.push_back(Done::Counted(volume, queue)),
            LaneCommand::Convict(association) if self.stubborn => {
                self.attached.remove(&(volume, association));
                tell(LaneNews::Drained {
                    association,
                    silent_at: None,
                    handed_back: true,
                    quiet: false,
                });
            }
            LaneCommand::Convict(association) if !self.mute => {
                self.convicted.insert(association);
                self.attached.remove(&(volume, association));
                tell(LaneNews::Drained {
                    association,
                    silent_at: Some(now),
                    handed_back: true,
                    quiet: true,
                });
                tell(LaneNews::BufferFenced {
                    association,
                    ghosts: self.ghosts.clone(),
                    at: now,
                });
            }
            LaneCommand::Guard(table) => {
                let generation = table.generation();
                let event = LaneEvent::Guarded { generation };
                tell(LaneNews::Event { event, at: now });
            }
            LaneCommand::GiveUpQueue(_)
            | LaneCommand::Attach { .. }
            | LaneCommand::Destroyed(_) => {
                match command {
                    LaneCommand::Attach { association, .. } => {
                        self.attached.insert((volume, association));
                    }
                    LaneCommand::Destroyed(association) => {
                        self.freed.push((volume.id, queue, association));
                    }
                    _ => {}
                }
                self.told.push((queue, command));
            }
            _ => {}
        }
    }

    /// The incarnation of a volume that has queue threads.
    pub(crate) fn key(&self, volume: StableId) -> VolumeKey {
        let mut present = self.queues.keys().filter(|key| key.id == volume);
        *present.next_back().unwrap()
    }

    /// Whether memory of a volume is registered with an association.
    pub(crate) fn has_memory_on(&self, volume: StableId, association: AssociationId) -> bool {
        let mut registered = self.registered.iter();
        registered.any(|(key, known)| (key.id, *known) == (volume, association))
    }

    /// A queue thread reports something.
    pub(crate) fn news(&mut self, volume: StableId, queue: u16, news: LaneNews) {
        self.host
            .handle_lane(self.key(volume), queue, news, self.now);
        self.settle();
    }

    pub(super) fn finish(&mut self, done: Done) {
        let now = self.now;
        let why = |what: &str| Failure::new(what, "no space left on device", "");
        let failed = |what: &str| Err(why(what));
        match done {
            Done::Recorded(path, association, record) => {
                let outcome = if self.failing.record {
                    failed("record")
                } else {
                    self.disk.associations.insert(association.0, *record);
                    Ok(())
                };
                self.host.handle_recorded(path, association, outcome, now);
            }
            Done::Built(spec, device) => {
                if self.failing.build {
                    self.queues.remove(&spec.key());
                    if self.failing.half_way {
                        self.queues.insert(spec.key(), 1);
                        self.end_lanes(spec.key());
                    }
                    return self.host.handle_built(spec.key(), Err(why("build")), now);
                }
                let id = device.unwrap_or_else(|| {
                    self.made += 1;
                    self.made - 1
                });
                let made = (u64::from(id) + 77, self.device_queues);
                let (cookie, queues) = *self.disk.devices.entry(id).or_insert(made);
                if device.is_none() {
                    let record = VolumeRecord::new(&spec, id, cookie);
                    self.disk.volumes.insert(spec.id, record);
                }
                self.queues.insert(spec.key(), queues);
                let facts = DeviceFacts {
                    device: id,
                    queues,
                    cookie,
                };
                self.host.handle_built(spec.key(), Ok(facts), now);
            }
            Done::Registered(volume, association) => {
                let outcome = if self.failing.register {
                    failed("register")
                } else {
                    Ok(())
                };
                self.host
                    .handle_registered(volume, association, outcome, now);
            }
            Done::Started(volume) => {
                let outcome = if self.failing.start {
                    failed("start")
                } else {
                    Ok(())
                };
                self.host.handle_started(volume, outcome, now);
            }
            Done::Counted(volume, queue) => {
                let stats = LaneNews::Stats(Box::new(ThreadStats {
                    queue: QueueStats::default(),
                    lane: LaneStats::default(),
                }));
                self.host.handle_lane(volume, queue, stats, now);
            }
            Done::Swept(volume) => {
                let outcome = if self.failing.delete {
                    failed("delete")
                } else {
                    self.delete(volume);
                    Ok(())
                };
                self.host.handle_swept(volume, outcome, now);
            }
            Done::Found(record) => {
                let found = self.found(&record);
                self.host.handle_found(record.id, found, now);
            }
            Done::Discarded(volume) => self.end_lanes(volume),
            Done::Removed(removal, volume) => {
                if self.failing.remove {
                    let kept = RemovalOutcome::Kept(why("remove"));
                    return self.host.handle_removed(removal, volume, kept, now);
                }
                self.end_lanes(volume);
                self.tables.remove(&volume.id);
                let outcome = if self.failing.delete {
                    RemovalOutcome::Stopped(why("delete"))
                } else {
                    self.delete(volume.id);
                    RemovalOutcome::Deleted
                };
                self.host.handle_removed(removal, volume, outcome, now);
            }
            Done::Destroyed(association, remains) => {
                self.host.handle_destroyed(association, remains, now, now);
            }
            Done::Users(removal, volumes) => {
                let used = self.used.then(|| "somebody".to_owned());
                let users = volumes
                    .into_iter()
                    .map(|id| (id, used.iter().cloned().collect()));
                let users: Vec<_> = users.collect();
                self.host.handle_users(removal, &users, now);
            }
        }
    }
}
