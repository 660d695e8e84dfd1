//! The media engine: ICE-lite, DTLS-SRTP, the gate and the fan-out of voice, without sockets, clock, threads or randomness
//! of its own.
//!
//! One [`Engine`] belongs to one worker thread. It is given datagrams, commands, packets of talks from its peers and the
//! time; it gives back datagrams through [`Outbound`] and events through [`Engine::poll_event`]. It never blocks. Everything
//! that it decides can therefore be tested in virtual time over a simulated network.
//!
//! Cost model: a packet of the floor's holder is parsed, opened, normalised and placed once, and then costs every
//! listener one copy, one header patch and one seal, and every other node that has listeners one copy and one seal: no
//! allocation, no lock, no task. A packet of anybody else is dropped after two look-ups, before decryption. A packet from
//! another node is opened once for all listeners of this node.

mod budget;
pub mod channel;
pub mod counters;
pub mod dtls;
mod engine;
pub mod floor_output;
pub mod framing;
pub mod id;
pub mod reception;
pub mod relay;
pub mod rtp;
pub mod srtp;
pub mod stun;
mod timers;
pub mod transport;

pub use counters::Counters;
pub use dtls::{Fingerprint, Identity, Role};
pub use engine::{
    Adopted, ClosedReason, Config, ConsumerParameters, Engine, Error, Event, FloorActivity, GateChange, GateClosed,
    GateEvent, GatewayEvent, NewConsumer, NewHolder, NewProducer, NewTransport, Outbound, ProducerParameters,
    TransportParameters, Usage,
};
pub use relay::{RelayKey, RelayOut};
pub use transport::{Direction, Path};
