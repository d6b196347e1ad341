//! Connection manager private data of Linux's NVMe/RDMA host and target, with the padding that the
//! InfiniBand connection manager adds: 56, 196 and 148 bytes are what user space is handed.

use umpath_nvme::IntoBytes;
use umpath_nvme::rdma::{CmReject, CmReply, CmRequest, RejectReason};

#[test]
fn request_of_the_admin_queue() {
    let bytes = include_bytes!("linux-7.2/cm_request_admin.bin");
    assert_eq!(bytes.len(), 56);
    let request = CmRequest::decode(bytes).unwrap();
    // hrqsize counts from one, hsqsize from zero: the admin queue has 32 entries.
    assert_eq!(request, CmRequest::new(0, 32, 0));
    assert_eq!((request.hrqsize.get(), request.hsqsize.get()), (32, 31));
    assert_eq!(request.as_bytes(), &bytes[..32]);
}

#[test]
fn reply() {
    let bytes = include_bytes!("linux-7.2/cm_reply_admin.bin");
    assert_eq!(bytes.len(), 196);
    assert_eq!(CmReply::decode(bytes), Some(CmReply::new(32)));
    assert_eq!(CmReply::new(32).as_bytes(), &bytes[..32]);
}

#[test]
fn reject_of_an_unknown_record_format() {
    let bytes = include_bytes!("linux-7.2/cm_reject_recfmt.bin");
    assert_eq!(bytes.len(), 148);
    let reject = CmReject::decode(bytes).unwrap();
    assert_eq!(reject.reason(), RejectReason::INVALID_RECFMT);
    assert_eq!(
        CmReject::new(RejectReason::INVALID_RECFMT).as_bytes(),
        &bytes[..4]
    );
}
