//! What one engine has seen, in plain numbers that only grow: for whoever asks, once in a while.
//!
//! Cost model: an addition to memory that is at hand. Nobody else reads them while the engine runs.

/// Since the engine was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams in, by what they are.
    pub rtp: u64,
    /// See [`Self::rtp`].
    pub rtcp: u64,
    /// See [`Self::rtp`].
    pub stun: u64,
    /// See [`Self::rtp`].
    pub dtls: u64,
    /// See [`Self::rtp`].
    pub relay: u64,
    /// See [`Self::rtp`].
    pub other: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// Speakers' packets that passed their gate here.
    pub admitted: u64,
    /// Packets sealed for a listener.
    pub forwarded: u64,
    /// Packets sent again.
    pub retransmitted: u64,
    /// Packets that listeners asked for again.
    pub nacks_received: u64,
    /// Packets that speakers were asked for again.
    pub nacks_sent: u64,
    /// Packets from other nodes that were opened.
    pub relayed_in: u64,
    /// Packets sent to other nodes.
    pub relayed_out: u64,
    /// Packets at a gate that is closed to them.
    pub gate_closed: u64,
    /// Packets from an address that has passed no check.
    pub unknown_source: u64,
    /// Packets of no producer, or before there are keys.
    pub unknown_stream: u64,
    /// Packets that could not be opened.
    pub not_authentic: u64,
    /// Packets, reports and requests for packets beyond what one client may cause.
    pub over_budget: u64,
    /// Packets that make no sense.
    pub malformed: u64,
    /// Packets that were here before, or are older than their stream can take.
    pub late: u64,
    /// Packets of a talk that is over.
    pub stale_epoch: u64,
    /// Transports that were connected.
    pub connected: u64,
    /// Transports that are now.
    pub connected_now: u64,
    /// Transports closed, by why.
    pub closed_requested: u64,
    /// See [`Self::closed_requested`].
    pub closed_ice_timeout: u64,
    /// See [`Self::closed_requested`].
    pub closed_dtls_failed: u64,
    /// See [`Self::closed_requested`].
    pub closed_fingerprint: u64,
    /// See [`Self::closed_requested`].
    pub closed_close_notify: u64,
}

/// Of two engines together.
impl std::ops::Add for Counters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            rtp: self.rtp + other.rtp,
            rtcp: self.rtcp + other.rtcp,
            stun: self.stun + other.stun,
            dtls: self.dtls + other.dtls,
            relay: self.relay + other.relay,
            other: self.other + other.other,
            bytes_received: self.bytes_received + other.bytes_received,
            admitted: self.admitted + other.admitted,
            forwarded: self.forwarded + other.forwarded,
            retransmitted: self.retransmitted + other.retransmitted,
            nacks_received: self.nacks_received + other.nacks_received,
            nacks_sent: self.nacks_sent + other.nacks_sent,
            relayed_in: self.relayed_in + other.relayed_in,
            relayed_out: self.relayed_out + other.relayed_out,
            gate_closed: self.gate_closed + other.gate_closed,
            unknown_source: self.unknown_source + other.unknown_source,
            unknown_stream: self.unknown_stream + other.unknown_stream,
            not_authentic: self.not_authentic + other.not_authentic,
            over_budget: self.over_budget + other.over_budget,
            malformed: self.malformed + other.malformed,
            late: self.late + other.late,
            stale_epoch: self.stale_epoch + other.stale_epoch,
            connected: self.connected + other.connected,
            connected_now: self.connected_now + other.connected_now,
            closed_requested: self.closed_requested + other.closed_requested,
            closed_ice_timeout: self.closed_ice_timeout + other.closed_ice_timeout,
            closed_dtls_failed: self.closed_dtls_failed + other.closed_dtls_failed,
            closed_fingerprint: self.closed_fingerprint + other.closed_fingerprint,
            closed_close_notify: self.closed_close_notify + other.closed_close_notify,
        }
    }
}
