//! ublk front end: control commands and queue threads.
