//! What a controller says about itself, checked and in usable units.
//!
//! Decided here: which statements of Identify Controller make a controller unusable, and how the
//! wire's units become durations and bytes. Not decided here: what a path does with them.

use std::time::Duration;

use umpath_nvme::FromBytes;
use umpath_nvme::identify::flags::{cntrltype, lpa};
use umpath_nvme::identify::{IDENTIFY_BYTES, IdentifyController, NvmController};
use umpath_nvme::property::{Cap, Version};

use crate::answer::Answer;
use crate::ask::DATA_MAX;
use crate::config::SessionConfig;
use crate::error::{Fault, SessionError};

/// A controller, as identified during bring-up. Sizes are bytes unless a name says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerFacts {
    /// Controller identifier of this association.
    pub cntlid: u16,
    /// Controller instance uniquifier (TP8028); 0 where Cross-Controller Reset is unknown.
    pub ciu: u8,
    /// Controller instance random number (TP8028); 0 where Cross-Controller Reset is unknown.
    pub cirn: u64,
    /// Cross-Controller Resets the controller takes at a time (CCRL); 0 if it takes none.
    pub ccr_limit: u8,
    /// Keep-alive timeout in force: what was asked, rounded up to the controller's granularity, or
    /// what the controller itself reports where that is longer. `None` if it has no such timer.
    pub kato: Option<Duration>,
    /// Whether any command restarts the timer (CTRATT.TBKAS).
    pub traffic_based: bool,
    /// Command quiesce time.
    pub cqt: Duration,
    /// Version property.
    pub version: Version,
    /// Capabilities property.
    pub cap: Cap,
    /// Largest data transfer of one command; `None` without limit.
    pub max_transfer: Option<u64>,
    /// I/O command capsule, including the 64-byte command.
    pub io_capsule_bytes: u32,
    /// Room for data within an I/O command capsule.
    pub in_capsule_bytes: u32,
    /// I/O response capsule.
    pub io_response_bytes: u32,
    /// Offset of in-capsule data after the command (ICDOFF); other than 0 forbids in-capsule data
    /// on RDMA.
    pub in_capsule_offset: u32,
    /// SGL data descriptors of one command; `None` without limit.
    pub sgl_descriptors_max: Option<u8>,
    /// SGLS field.
    pub sgls: u32,
    /// Whether a volatile write cache is present.
    pub volatile_cache: bool,
    /// ONCS field: optional NVM commands.
    pub oncs: u16,
    /// Limits of Write Zeroes and Deallocate.
    pub nvm_limits: NvmLimits,
    /// Most commands of one I/O queue (MAXCMD); `None` without limit.
    pub commands_max: Option<u16>,
    /// Entries of one queue (CAP.MQES + 1).
    pub queue_entries_max: u32,
    /// OAES field: asynchronous events supported.
    pub oaes: u32,
    /// Asynchronous event requests the controller holds (AERL + 1).
    pub async_events_max: u16,
    /// CTRATT field.
    pub ctratt: u32,
    /// LPA field.
    pub lpa: u8,
    /// Longest shutdown the controller announces (RTD3E); `None` if it does not say.
    pub shutdown_latency: Option<Duration>,
    /// Highest namespace identifier.
    pub namespaces_max: u32,
    /// ANA reporting; `None` if the controller reports none.
    pub ana: Option<AnaFacts>,
    /// Serial number, without padding.
    pub serial: String,
    /// Model number, without padding.
    pub model: String,
    /// Firmware revision, without padding.
    pub firmware: String,
    /// NQN of the subsystem.
    pub subnqn: String,
}

/// What a controller says about its ANA reporting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnaFacts {
    /// Longest transition between states (ANATT).
    pub transition: Duration,
    /// ANACAP field.
    pub anacap: u8,
    /// Highest group identifier (ANAGRPMAX).
    pub group_max: u32,
    /// Number of groups (NANAGRPID).
    pub groups: u32,
    /// Most namespaces the log may list (MNAN, or NN).
    pub namespaces: u32,
}

/// Limits of Write Zeroes and Dataset Management. `None` means not limited beyond the command's
/// own fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NvmLimits {
    /// Largest Write Zeroes (WZSL). Where the controller does not say, this is its largest data
    /// transfer, as a Linux host assumes.
    pub write_zeroes_bytes: Option<u64>,
    /// Ranges of one Dataset Management (DMRL), `1..=255`; `None` allows 256.
    pub dsm_ranges: Option<u8>,
    /// Logical blocks of one range (DMRSL).
    pub dsm_range_blocks: Option<u32>,
    /// Logical blocks of all ranges together (DMSL).
    pub dsm_blocks: Option<u64>,
}

/// Which kind of controller is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Nvm,
    Discovery,
}

/// What is known of a controller before it is identified.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Origin {
    pub(crate) cntlid: u16,
    pub(crate) cap: Cap,
    pub(crate) version: Version,
}

impl Origin {
    /// Judges the answer to Identify Controller.
    pub(crate) fn facts(
        self,
        answer: &Answer<'_>,
        role: Role,
        config: &SessionConfig,
    ) -> Result<ControllerFacts, SessionError> {
        let page = answer.data(IDENTIFY_BYTES)?;
        let id =
            IdentifyController::ref_from_bytes(page).map_err(|_| answer.short(IDENTIFY_BYTES))?;
        self.judge(id, role, config)
            .map_err(|fault| answer.garbage(fault))
    }

    fn judge(
        self,
        id: &IdentifyController,
        role: Role,
        config: &SessionConfig,
    ) -> Result<ControllerFacts, Fault> {
        if id.cntlid.get() != self.cntlid {
            let (connected, identified) = (self.cntlid, id.cntlid.get());
            return Err(Fault::ControllerIdMismatch {
                connected,
                identified,
            });
        }
        if role == Role::Nvm {
            judge_nvm(id, config)?;
        }
        let kas = Duration::from_millis(u64::from(id.kas.get()) * 100);
        let mpsmin = self.cap.mpsmin();
        let max_transfer = id.max_transfer_bytes(mpsmin);
        Ok(ControllerFacts {
            cntlid: self.cntlid,
            ciu: id.ciu,
            cirn: id.cirn.get(),
            ccr_limit: id.ccrl,
            kato: round_up(config.kato, kas),
            traffic_based: id.has_traffic_keep_alive(),
            cqt: Duration::from_millis(id.cqt.get().into()),
            version: self.version,
            cap: self.cap,
            max_transfer,
            io_capsule_bytes: id.ioccsz.get().saturating_mul(16),
            in_capsule_bytes: u32::try_from(id.in_capsule_bytes()).unwrap_or(u32::MAX),
            io_response_bytes: id.iorcsz.get().saturating_mul(16),
            in_capsule_offset: id.in_capsule_offset_bytes(),
            sgl_descriptors_max: (id.msdbd != 0).then_some(id.msdbd),
            sgls: id.sgls.get(),
            volatile_cache: id.has_volatile_cache(),
            oncs: id.oncs.get(),
            nvm_limits: NvmLimits {
                write_zeroes_bytes: max_transfer,
                ..NvmLimits::default()
            },
            commands_max: (id.maxcmd.get() != 0).then_some(id.maxcmd.get()),
            queue_entries_max: self.cap.queue_entries_max(),
            oaes: id.oaes.get(),
            async_events_max: u16::from(id.aerl) + 1,
            ctratt: id.ctratt.get(),
            lpa: id.lpa,
            shutdown_latency: match id.rtd3e.get() {
                0 => None,
                micros => Some(Duration::from_micros(micros.into())),
            },
            namespaces_max: id.nn.get(),
            ana: AnaFacts::of(id)?,
            serial: text("serial number", &id.sn)?,
            model: text("model number", &id.mn)?,
            firmware: text("firmware revision", &id.fr)?,
            subnqn: subsystem_name(id),
        })
    }
}

/// What an NVM controller must say and a discovery controller need not.
fn judge_nvm(id: &IdentifyController, config: &SessionConfig) -> Result<(), Fault> {
    if matches!(
        id.cntrltype,
        cntrltype::DISCOVERY | cntrltype::ADMINISTRATIVE
    ) {
        return Err(Fault::ControllerType(id.cntrltype));
    }
    if id.subsystem().as_ref() != Ok(&config.subsystem_nqn) {
        return Err(Fault::SubsystemMismatch(subsystem_name(id)));
    }
    if id.nn.get() == 0 {
        return Err(Fault::NoNamespaces);
    }
    let holds = |field: u8, size: u8| field & 0xf <= size && field >> 4 >= size;
    if !holds(id.sqes, 6) || !holds(id.cqes, 4) {
        return Err(Fault::EntrySizes {
            sqes: id.sqes,
            cqes: id.cqes,
        });
    }
    let (ioccsz, iorcsz) = (id.ioccsz.get(), id.iorcsz.get());
    if ioccsz < 4 || iorcsz < 1 {
        return Err(Fault::CapsuleSizes { ioccsz, iorcsz });
    }
    Ok(())
}

/// The subsystem's name, fit for printing even if it is not a name.
fn subsystem_name(id: &IdentifyController) -> String {
    umpath_nvme::text::trimmed(&id.subnqn).to_owned()
}

/// A field of printable ASCII, padded with spaces or NULs.
fn text(name: &'static str, field: &[u8]) -> Result<String, Fault> {
    let padding = |byte: &u8| matches!(byte, 0 | b' ');
    let end = field
        .iter()
        .rposition(|byte| !padding(byte))
        .map_or(0, |last| last + 1);
    let printable = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    let content = field.get(..end).unwrap_or_default();
    if !content.iter().all(printable) {
        return Err(Fault::NotAscii(name));
    }
    Ok(umpath_nvme::text::trimmed(content).to_owned())
}

/// `asked` rounded up to whole `granules`; `None` if granules are zero.
fn round_up(asked: Duration, granule: Duration) -> Option<Duration> {
    let granules = asked
        .as_nanos()
        .div_ceil(Some(granule.as_nanos()).filter(|nanos| *nanos != 0)?);
    Some(granule.saturating_mul(u32::try_from(granules).unwrap_or(u32::MAX)))
}

impl ControllerFacts {
    /// Whether command set specific Identify structures can be expected: since NVMe 2.0, or where
    /// several command sets are enabled.
    pub(crate) fn has_command_sets(&self) -> bool {
        self.version >= Version::new(2, 0, 0) || self.cap.has_iocs()
    }

    /// Whether namespace identification descriptors can be expected: since NVMe 1.3.
    pub(crate) fn has_descriptors(&self) -> bool {
        self.version >= Version::new(1, 3, 0) || self.cap.has_iocs()
    }

    /// Largest admin transfer of this session with this controller, a multiple of 4 KiB.
    pub(crate) fn transfer_limit(&self) -> u32 {
        let limit = DATA_MAX as u64;
        self.max_transfer.unwrap_or(limit).min(limit) as u32
    }

    /// Whether logs can be read from an offset (LPA bit 2).
    pub(crate) fn has_log_offset(&self) -> bool {
        self.lpa & lpa::EXTENDED != 0
    }

    /// The controller named its keep-alive timeout. A longer one than computed counts, because
    /// whoever waits for it to pass must not wait too briefly; zero means that there is no timer.
    pub(crate) fn kato_reported(&mut self, reported: Duration) {
        if let Some(computed) = self.kato {
            self.kato = (!reported.is_zero()).then(|| reported.max(computed));
        }
    }
}

impl AnaFacts {
    fn of(id: &IdentifyController) -> Result<Option<Self>, Fault> {
        if !id.has_ana() {
            return Ok(None);
        }
        let (groups, nn) = (id.nanagrpid.get(), id.nn.get());
        let namespaces = if id.mnan.get() == 0 {
            nn
        } else {
            id.mnan.get()
        };
        if groups == 0 || id.anagrpmax.get() == 0 || namespaces > nn {
            return Err(Fault::AnaLimits { groups, namespaces });
        }
        Ok(Some(Self {
            transition: Duration::from_secs(id.anatt.into()),
            anacap: id.anacap,
            group_max: id.anagrpmax.get(),
            groups,
            namespaces,
        }))
    }
}

impl NvmLimits {
    pub(crate) fn parse(
        answer: &Answer<'_>,
        facts: &ControllerFacts,
    ) -> Result<Self, SessionError> {
        let page = answer.data(IDENTIFY_BYTES)?;
        let id = NvmController::ref_from_bytes(page).map_err(|_| answer.short(IDENTIFY_BYTES))?;
        Ok(Self {
            write_zeroes_bytes: id
                .write_zeroes_bytes_max(facts.cap.mpsmin())
                .or(facts.max_transfer),
            dsm_ranges: (id.dmrl != 0).then_some(id.dmrl),
            dsm_range_blocks: id.dsm_range_blocks_max(),
            dsm_blocks: id.dsm_blocks_max(),
        })
    }
}
