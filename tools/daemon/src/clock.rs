//! The one clock: monotonic time since the daemon began, and the wall clock for people.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Time zero of every sans-IO part of this process, the queue threads included.
pub(crate) fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}

/// Time since [`origin`].
pub(crate) fn now() -> Duration {
    origin().elapsed()
}

/// Milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_millis() as u64)
}

/// The tokio instant at which [`now`] will be `at`.
pub(crate) fn instant(at: Duration) -> tokio::time::Instant {
    tokio::time::Instant::from_std(origin() + at)
}

/// Waits until then; for ever without a time.
pub(crate) async fn due(at: Option<Duration>) {
    match at {
        Some(at) => tokio::time::sleep_until(instant(at)).await,
        None => std::future::pending().await,
    }
}

/// 64 random bits, from the kernel by way of two random UUIDs' unfixed halves.
pub(crate) fn random() -> u64 {
    let half = |uuid: uuid::Uuid| uuid.as_u64_pair().1 << 32;
    half(uuid::Uuid::new_v4()) ^ half(uuid::Uuid::new_v4()) >> 32
}
