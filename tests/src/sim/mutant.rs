//! Mistakes planted on purpose: a simulator that does not see them proves nothing.
//!
//! They are planted where this world plays the shell or the target's engine, so the product's code
//! carries no trace of them: a message that is lost, late, doubled or false on its way between host,
//! paths, queue threads and disk; an order that is not carried out, or too early, or on the wrong
//! thing; a gate that is not obeyed. Each is a mistake a host, a path, a queue thread, a shell or a
//! target could make. What each does at its place is in `seam`.

macro_rules! mutants {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// One mistake.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mutant {
            $($(#[$doc])* $variant,)+
        }

        impl Mutant {
            /// All of them, with the names the command line knows.
            pub const ALL: &'static [(&'static str, Self)] = &[$(($name, Self::$variant),)+];
        }
    };
}

mutants! {
    /// The target executes what its gate refuses.
    GateIgnored = "gate-ignored",
    /// The target's gate knows the keep-alive timer only by its timer event, not by the clock.
    GateByTimer = "gate-by-timer",
    /// The target's gate does not close with the controller.
    GateStaysOpen = "gate-stays-open",
    /// Drained queue pairs count as an order fence.
    NoFence = "no-fence",
    /// The fence waits one KATO less than it must.
    FenceShort = "fence-short",
    /// The fence grants no error to the controller's clock.
    ClockErrorForgotten = "clock-error-forgotten",
    /// The fence forgets that the end of a queue pair may count as traffic.
    EndsForgotten = "ends-forgotten",
    /// A controller that reports no quiesce time is granted none.
    QuiesceForgotten = "quiesce-forgotten",
    /// The fence forgets that keep-alives and commands may wait for a controller that stands still: it
    /// counts what the last answer needs and what the last packet needs.
    SleepForgotten = "sleep-forgotten",
    /// A traffic-based keep-alive timer is taken for a command-based one.
    TrafficIgnored = "traffic-ignored",
    /// The fence counts from the last answer alone, whenever the queue pairs fell silent.
    FenceFromAnswer = "fence-from-answer",
    /// The fence counts from the conviction, whenever the queue pairs fell silent.
    FenceFromConviction = "fence-from-conviction",
    /// The fence of one association is taken for that of another.
    FenceOfAnother = "fence-of-another",
    /// The fence counts once any queue pair is silent, as if it had been all of them.
    FenceOfWrongQueue = "fence-of-wrong-queue",
    /// A queue pair counts as destroyed, and silent, when its destruction begins.
    DestroyedEarly = "destroyed-early",
    /// A queue pair counts as silent when it is given up, whether or not it says so.
    SilenceTrusted = "silence-trusted",
    /// An orderly removal does not wait for the admin queue.
    OrderlyAdminIgnored = "orderly-admin-ignored",
    /// Queue pairs that no queue thread has count as silent at once.
    SpareIgnored = "spare-ignored",
    /// Lost writes are sent again as soon as the queue pair is drained, and nothing is locked.
    RetryAtOnce = "retry-at-once",
    /// Each lane sends its ghosts again when it has the table, whatever the others have.
    LockedAlone = "locked-alone",
    /// A lane confirms a table while it has overlapping writes in flight.
    GuardedAtOnce = "guarded-at-once",
    /// One lane never gets a table of ghosts; it is confirmed all the same.
    GuardUnheard = "guard-unheard",
    /// Ghosts lack their last block.
    GhostShort = "ghost-short",
    /// Ghosts lack their first block.
    GhostLate = "ghost-late",
    /// A lane keeps off its own ghosts only.
    OwnGhostsOnly = "own-ghosts-only",
    /// Lanes keep off the newest association's ghosts only.
    NewestGhostsOnly = "newest-ghosts-only",
    /// Only writes leave ghosts, not deallocations and zeroing.
    OnlyWritesHaunt = "only-writes-haunt",
    /// A lane's ghosts are lost on the way.
    GhostsForgotten = "ghosts-forgotten",
    /// No other controller is ever asked to reset the lost one.
    LadderSilent = "ladder-silent",
    /// A reset that the log calls failed is taken for one that succeeded.
    CcrFailedIsSuccess = "ccr-failed-is-success",
    /// A reset under way is taken for one that is complete.
    CcrProgressIsSuccess = "ccr-progress-is-success",
    /// A refused reset is taken for one that is not needed any more.
    CcrRefusalIsSuccess = "ccr-refusal-is-success",
    /// A request to reset that is not answered is taken for granted.
    CcrSilenceIsSuccess = "ccr-silence-is-success",
    /// The target resets the controller that has the identifier now, whichever was named.
    CcrIgnoresIncarnation = "ccr-ignores-incarnation",
    /// The target calls a reset complete while commands are on the medium.
    CcrCountIgnored = "ccr-count-ignored",
    /// The target calls a controller reset that it knows nothing of.
    CcrUnknownIsSuccess = "ccr-unknown-is-success",
    /// The target calls a command aborted and executes it later.
    AbortLies = "abort-lies",
    /// The target does not honour FUA.
    FuaIgnored = "fua-ignored",
    /// A write that is sent again has lost its FUA.
    FuaNotResent = "fua-not-resent",
    /// The target's FLUSH does nothing.
    FlushIgnored = "flush-ignored",
    /// A target's FLUSH covers what was written through it, not through the others.
    FlushOfOwn = "flush-of-own",
    /// A lost FLUSH is taken for done.
    FlushNotResent = "flush-not-resent",
    /// The target keeps commands on the medium for longer than the quiesce time it promises. No
    /// host can stand that: it shows that this world sees it.
    CqtLie = "cqt-lie",
    /// What the target says when it closes a connection is taken for an order fence.
    GoodbyeIsFence = "goodbye-is-fence",
    /// Blocks are unlocked after a while.
    UnlockOnTimeout = "unlock-on-timeout",
    /// Blocks are unlocked when their ghost was sent again and answered.
    UnlockOnAnswer = "unlock-on-answer",
    /// The first lane that drained speaks for all.
    OneDrainsForAll = "one-drains-for-all",
    /// A volume that other hosts write to is treated as ours alone.
    SharingIgnored = "sharing-ignored",
    /// Memory is reused when the queue pair is in the error state, not when it is drained.
    BufferAtError = "buffer-at-error",
    /// A flush marker counts although it could not be posted.
    MarkerTrusted = "marker-trusted",
    /// A queue pair that does not drain is waited for without a deadline.
    DrainForEver = "drain-for-ever",
    /// A queue pair that does not drain in time counts as drained without being destroyed.
    DeadlineTrusted = "deadline-trusted",
    /// A restarted host knows nothing of its earlier associations.
    InheritNothing = "inherit-nothing",
    /// Associations are struck from the records when they are convicted, not when they are fenced.
    RecordsForget = "records-forget",
    /// An association is used before its record is durable.
    RecordNotAwaited = "record-not-awaited",
    /// A restarted host takes its predecessor's death for a fence.
    DeathIsFence = "death-is-fence",
    /// Sometimes a completion is dropped.
    CompletionDropped = "completion-dropped",
    /// Sometimes a completion is given twice.
    CompletionTwice = "completion-twice",
    /// An answer that comes on an old queue pair is taken for one to what is in flight on the new one.
    StaleAnswer = "stale-answer",
    /// Slow writes are hedged.
    HedgedWrite = "hedged-write",
    /// A write that is sent again takes its data from the wrong place.
    ResendShifted = "resend-shifted",
    /// A lane never hears of convictions.
    ConvictionUnheard = "conviction-unheard",
    /// A queue pair that is cut off alone is left to its NIC.
    QueueSilenceIgnored = "queue-silence-ignored",
    /// A queue pair is replaced although writes are in flight on it, and they are sent again at once.
    WritesReplaced = "writes-replaced",
    /// A namespace that could not be read stays unread, and with it what its path says of ANA states.
    UnreadForEver = "unread-for-ever",
    /// Nobody cares how old a command is.
    AgeIgnored = "age-ignored",
    /// Requests fail when there is no path.
    FailsWithoutPath = "fails-without-path",
    /// A lost association is not connected again.
    NeverReconnects = "never-reconnects",
    /// A block device is made as if nothing below it had a cache: the kernel sends no FLUSH and no FUA.
    CacheDenied = "cache-denied",
    /// A restarted host believes the size it had recorded.
    ResizeForgotten = "resize-forgotten",
    /// A restarted host asks for as many queues as are configured, not as the device has.
    TooFewQueues = "too-few-queues",
    /// What was refused once is refused for ever.
    RefusedForEver = "refused-for-ever",
    /// Memory that could not be registered once is never registered.
    MemoryRefusedForEver = "memory-refused-for-ever",
    /// A volume's block device is made without a record of it.
    VolumeUnrecorded = "volume-unrecorded",
    /// The numbers of paths are not kept.
    NumbersForgotten = "numbers-forgotten",
    /// A restart forgets a path that is down.
    RestartForgetsPath = "restart-forgets-path",
    /// The patience with a volume taken over ends with its first path, usable or not.
    GraceEndsEarly = "grace-ends-early",
    /// A block device that could not be taken over is made anew.
    SecondDevice = "second-device",
    /// A path's timer goes off, and nothing is done.
    TimerEarly = "timer-early",
    /// The host's timer goes off, and nothing is done.
    HostTimerIgnored = "host-timer-ignored",
    /// A suspicion is raised and taken back again and again.
    SuspicionOscillates = "suspicion-oscillates",
    /// A path that did not come back in time is forgotten although it is configured.
    CtrlLossForgets = "ctrl-loss-forgets",
    /// New namespaces are not noticed.
    NamespaceUnheard = "namespace-unheard",
    /// A volume is served under the number its namespace had first.
    NumberKept = "number-kept",
    /// Changes of ANA states are not noticed.
    AnaUnheard = "ana-unheard",
    /// After a command of a path's session was refused, its ANA states are never read again.
    AnaFrozen = "ana-frozen",
    /// What an operator has removed is connected again as if another one had asked for it.
    RemovedReturns = "removed-returns",
    /// The host is not told that a queue thread has ended.
    EndUnheard = "end-unheard",
    /// A queue thread does not get its queue pair.
    AttachLost = "attach-lost",
    /// One lane misses a table now and then.
    TableLost = "table-lost",
    /// An older table comes after a newer one.
    TablesSwapped = "tables-swapped",
    /// Lanes are not notified that ghosts are locked.
    LockLost = "lock-lost",
    /// Lanes are not notified that an association is fenced.
    FenceLost = "fence-lost",
    /// A lane is not notified that its queue pair was destroyed.
    DestroyedLost = "destroyed-lost",
    /// The host is not notified that a lane has drained.
    BufferFenceLost = "buffer-fence-lost",
    /// The host is not notified of a conviction.
    ConvictionLost = "conviction-lost",
    /// The host is not notified that a suspicion is over.
    ClearLost = "clear-lost",
    /// The host is not notified of queues that were opened for it.
    QueuesLost = "queues-lost",
    /// A request that a dead server had is not given to the next one.
    ReissueLost = "reissue-lost",
    /// A request that a dead server had is given to the next one twice.
    ReissuedTwice = "reissued-twice",
    /// A call is not answered now and then.
    AnswerLost = "answer-lost",
    /// Records of fenced associations stay.
    RecordsStay = "records-stay",
}
