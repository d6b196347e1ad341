//! Identify (NVMe Base 2.1 §5.1.13): what the controller and its namespaces are.

use umpath_nvme::command::admin::Identify;
use umpath_nvme::identify::flags::{
    anacap, cmic, cntrltype, ctratt, dlfeat, lpa, nmic, nsfeat, nstat, oncs, sgls, vwc,
};
use umpath_nvme::identify::{
    ControllerList, IdentifyController, IdentifyNamespace, IndependentNamespace, NsIdentifier,
    NsList, NvmController, NvmNamespace, write_descriptors,
};
use umpath_nvme::{FromBytes, IntoBytes, Nqn, Sqe, Status, U16, U32, U64};

use super::events::{Notice, REQUESTS_MAX};
use super::{Controller, Surroundings, property, reset};
use crate::model::{
    ANA_GROUP_MAX, DISCOVERY_NQN, DSM_RANGE_BLOCKS_MAX, DSM_RANGES_MAX, MDTS_PAGES_LOG2, NSID_MAX,
    WZSL_PAGES_LOG2,
};
use crate::subsystem::{Namespace, Subsystem};

mod cns {
    pub(super) const NAMESPACE: u8 = 0x00;
    pub(super) const CONTROLLER: u8 = 0x01;
    pub(super) const ACTIVE_NAMESPACES: u8 = 0x02;
    pub(super) const DESCRIPTORS: u8 = 0x03;
    pub(super) const SET_NAMESPACE: u8 = 0x05;
    pub(super) const SET_CONTROLLER: u8 = 0x06;
    pub(super) const SET_ACTIVE_NAMESPACES: u8 = 0x07;
    pub(super) const INDEPENDENT_NAMESPACE: u8 = 0x08;
    pub(super) const ALLOCATED_NAMESPACES: u8 = 0x10;
    pub(super) const ALLOCATED_NAMESPACE: u8 = 0x11;
    pub(super) const ATTACHED_CONTROLLERS: u8 = 0x12;
    pub(super) const CONTROLLERS: u8 = 0x13;
}

/// The NVM command set's identifier.
const CSI_NVM: u8 = 0;
/// Entries the error log keeps.
pub(super) const ERRORS_MAX: usize = 16;
/// Firmware revision: this program's version.
pub(super) const FIRMWARE: &str = env!("CARGO_PKG_VERSION");
/// The longest an ANA group may stay in the change state, in seconds.
const ANA_TRANSITION_S: u8 = 10;
/// VWCNP of the independent structure: this namespace has no volatile cache.
const NO_VOLATILE_CACHE: u8 = 1 << 5;

/// Whether any namespace may lose completed writes.
pub(super) fn has_volatile_cache<M>(subsystem: &Subsystem<M>) -> bool {
    subsystem
        .namespaces
        .values()
        .any(|namespace| namespace.geometry.volatile_cache)
}

impl<M> Controller<M> {
    pub(super) fn identify(
        &self,
        sqe: &Sqe,
        data: &mut [u8],
        surroundings: &Surroundings<'_, M>,
    ) -> Result<(), Status> {
        let command = Identify::parse(sqe);
        if command.cns == cns::CONTROLLER {
            let page = IdentifyController::mut_from_bytes(data)
                .map_err(|_| Status::DATA_SGL_LENGTH_INVALID.with_dnr())?;
            self.identify_controller(page, surroundings);
            return Ok(());
        }
        // Nothing else exists on a discovery controller.
        let subsystem = surroundings
            .subsystem
            .ok_or(Status::INVALID_FIELD.with_dnr())?;
        let set_specific = matches!(
            command.cns,
            cns::SET_NAMESPACE | cns::SET_CONTROLLER | cns::SET_ACTIVE_NAMESPACES
        );
        if set_specific && command.csi != CSI_NVM {
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        match command.cns {
            cns::NAMESPACE | cns::ALLOCATED_NAMESPACE => {
                if !(1..=NSID_MAX).contains(&command.nsid) {
                    return Err(Status::INVALID_NAMESPACE.with_dnr());
                }
                // An inactive namespace is all zeroes.
                if let Some(namespace) = subsystem.namespaces.get(&command.nsid) {
                    put(data, identify_namespace(namespace).as_bytes());
                }
            }
            cns::ACTIVE_NAMESPACES | cns::SET_ACTIVE_NAMESPACES | cns::ALLOCATED_NAMESPACES => {
                if command.nsid >= 0xffff_fffe {
                    return Err(Status::INVALID_NAMESPACE.with_dnr());
                }
                let after = subsystem
                    .namespaces
                    .range(command.nsid + 1..)
                    .map(|(nsid, _)| *nsid);
                put(data, NsList::new(after).as_bytes());
            }
            cns::DESCRIPTORS => {
                let namespace = active(subsystem, command.nsid)?;
                let mut identifiers = vec![
                    NsIdentifier::Nguid(namespace.nguid.0),
                    NsIdentifier::Uuid(namespace.uuid.into_bytes()),
                    NsIdentifier::CommandSet(CSI_NVM),
                ];
                identifiers.extend(namespace.eui64.map(|eui64| NsIdentifier::Eui64(eui64.0)));
                write_descriptors(data, &identifiers).ok_or(Status::INTERNAL_ERROR)?;
            }
            cns::SET_NAMESPACE => {
                active(subsystem, command.nsid)?;
                put(data, NvmNamespace::default().as_bytes());
            }
            cns::SET_CONTROLLER => put(data, nvm_controller().as_bytes()),
            cns::INDEPENDENT_NAMESPACE => {
                put(
                    data,
                    independent(active(subsystem, command.nsid)?).as_bytes(),
                );
            }
            cns::ATTACHED_CONTROLLERS | cns::CONTROLLERS => {
                if command.cns == cns::ATTACHED_CONTROLLERS {
                    active(subsystem, command.nsid)?;
                }
                let from = surroundings.siblings.iter().copied();
                let list = ControllerList::new(from.filter(|id| *id >= command.cntid));
                put(data, list.as_bytes());
            }
            _ => return Err(Status::INVALID_FIELD.with_dnr()),
        }
        Ok(())
    }

    fn identify_controller(&self, id: &mut IdentifyController, around: &Surroundings<'_, M>) {
        id.cntlid = U16::new(self.shared.instance.cntlid);
        id.ver = U32::new(property::VERSION.0);
        id.ctratt = U32::new(ctratt::HOST_ID_128);
        id.lpa = lpa::EXTENDED | lpa::SUPPORTED_PAGES;
        id.aerl = REQUESTS_MAX as u8 - 1;
        id.mdts = MDTS_PAGES_LOG2;
        // Keep-alive timeouts are kept to the millisecond; 100 ms is the finest unit there is.
        id.kas = U16::new(1);
        id.maxcmd = U16::new(around.limits.depth_max);
        id.sgls = U32::new(sgls::SUPPORTED | sgls::KEYED | sgls::OFFSET);
        id.ioccsz = U32::new((64 + around.limits.in_capsule_bytes) / 16);
        id.iorcsz = U32::new(1);
        id.msdbd = 1;
        if let Some(subsystem) = around.subsystem {
            id.ciu = self.shared.instance.ciu;
            id.cirn = U64::new(self.shared.instance.cirn);
            identify_io_controller(id, subsystem);
        } else {
            id.cntrltype = cntrltype::DISCOVERY;
            id.oaes = U32::new(Notice::Discovery.config_bit());
            id.set_texts("discovery", "umpath-discovery", FIRMWARE);
            put(&mut id.subnqn, DISCOVERY_NQN.as_bytes());
        }
    }
}

fn identify_io_controller<M>(id: &mut IdentifyController, subsystem: &Subsystem<M>) {
    id.cntrltype = cntrltype::IO;
    id.cmic = cmic::MULTI_PORT | cmic::MULTI_CONTROLLER | cmic::ANA;
    id.oaes = U32::new(Notice::Namespaces.config_bit() | Notice::Ana.config_bit());
    if subsystem.ccr {
        id.ccrl = reset::IN_PROGRESS_MAX;
        id.oaes |= Notice::Resets.config_bit() | Notice::LostHost.config_bit();
    }
    id.lpa |= lpa::EFFECTS;
    id.acl = 3;
    id.elpe = ERRORS_MAX as u8 - 1;
    // One firmware slot, read-only.
    id.frmw = 1 << 1 | 1;
    id.sqes = 0x66;
    id.cqes = 0x44;
    id.nn = U32::new(NSID_MAX);
    id.mnan = U32::new(NSID_MAX);
    id.oncs = U16::new(oncs::DATASET_MANAGEMENT | oncs::WRITE_ZEROES | oncs::FEATURE_SAVE_SELECT);
    id.vwc = vwc::FLUSH_ALL_UNSUPPORTED;
    if has_volatile_cache(subsystem) {
        id.vwc |= vwc::PRESENT;
    }
    id.cqt = U16::new(subsystem.cqt_ms);
    id.anatt = ANA_TRANSITION_S;
    id.anacap = anacap::OPTIMIZED
        | anacap::NON_OPTIMIZED
        | anacap::INACCESSIBLE
        | anacap::PERSISTENT_LOSS
        | anacap::CHANGE
        | anacap::GROUP_ID_FIXED;
    id.anagrpmax = U32::new(ANA_GROUP_MAX);
    id.nanagrpid = U32::new(ANA_GROUP_MAX);
    id.set_texts(&subsystem.serial, &subsystem.model, FIRMWARE);
    if let Ok(nqn) = Nqn::new(&subsystem.nqn) {
        id.subnqn = nqn.to_field();
    }
}

fn active<M>(subsystem: &Subsystem<M>, nsid: u32) -> Result<&Namespace<M>, Status> {
    subsystem
        .namespaces
        .get(&nsid)
        .ok_or(Status::INVALID_NAMESPACE.with_dnr())
}

fn identify_namespace<M>(namespace: &Namespace<M>) -> IdentifyNamespace {
    let geometry = namespace.geometry;
    let mut id = IdentifyNamespace::new(geometry.blocks, geometry.block_bytes);
    id.nsfeat = nsfeat::UID_NOT_REUSED;
    id.nmic = nmic::SHARED;
    id.dlfeat = dlfeat::READ_ZEROES | dlfeat::WRITE_ZEROES_DEALLOCATES;
    id.nvmcap = (u128::from(geometry.blocks) * u128::from(geometry.block_bytes)).into();
    id.anagrpid = U32::new(namespace.ana_group);
    id.nguid = namespace.nguid.0;
    id.eui64 = namespace.eui64.map_or([0; 8], |eui64| eui64.0);
    id
}

fn independent<M>(namespace: &Namespace<M>) -> IndependentNamespace {
    let no_cache = if namespace.geometry.volatile_cache {
        0
    } else {
        NO_VOLATILE_CACHE
    };
    IndependentNamespace {
        nsfeat: nsfeat::UID_NOT_REUSED | no_cache,
        nmic: nmic::SHARED,
        anagrpid: U32::new(namespace.ana_group),
        nstat: nstat::READY,
        ..IndependentNamespace::default()
    }
}

fn nvm_controller() -> NvmController {
    NvmController {
        wzsl: WZSL_PAGES_LOG2,
        dmrl: DSM_RANGES_MAX,
        dmrsl: U32::new(DSM_RANGE_BLOCKS_MAX),
        ..NvmController::default()
    }
}

/// Copies bytes to the start of a zeroed buffer.
pub(super) fn put(data: &mut [u8], bytes: &[u8]) {
    for (to, from) in data.iter_mut().zip(bytes) {
        *to = *from;
    }
}
