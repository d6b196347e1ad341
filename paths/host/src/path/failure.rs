//! Errors of sessions and connections, worded so that an operator can act on them.

use umpath_protocol::Failure;
use umpath_session::{SessionError, TransportError};

/// The failure of `doing` ("connect to …", "discover") at `address`: what failed, why, what to do.
pub fn explain(doing: &str, address: &str, error: &SessionError) -> Failure {
    let what = format!("cannot {doing} at {address}");
    let mut why = error.to_string();
    if let SessionError::Transport(
        TransportError::Open { source, .. } | TransportError::Lost { source, .. },
    ) = error
    {
        // The transport's message is more precise than "could not open queue 0" and includes
        // advice.
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(source.as_ref());
        while let Some(next) = cause {
            let text = next.to_string();
            if !why.contains(&text) {
                why = format!("{why}: {text}");
            }
            cause = next.source();
        }
    }
    Failure::new(what, why, error.remedy())
}
