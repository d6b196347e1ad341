//! The host in hand-made situations: what it orders, and what an operator sees.

mod adoption;
mod rig;
mod trouble;
