//! The judges that no real system has.
//!
//! They see every command before it leaves, every order of the host, and what executes where, and
//! judge by what no part of the product can see at once.
//!
//! | file | judges |
//! |---|---|
//! | `numbers` | under which numbers namespaces are served |
//! | `sends` | what may be sent, and what executes |
//! | `truth` | what the host concludes: fences, memory that is free, what is durable |
//! | `orders` | commands of the host to its queue threads, and how often it changes its mind |
//! | `service` | that what is well serves |

mod numbers;
mod orders;
mod sends;
mod service;
mod truth;

pub(crate) use sends::Fences;
pub(crate) use service::Patient;
