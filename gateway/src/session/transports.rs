//! The transports of one connection.
//!
//! They belong to the connection, not to a channel, and end with it, or when the client closes them: existing clients
//! differ in what they share. The browser opens a pair for each channel; Android one to receive for each channel, and one
//! to send for all of them; our own client one pair for everything.

use std::collections::HashMap;

use voiceping_proto::media::v1::Direction;
use voiceping_state::ChannelId;

use crate::error::Refusal;

/// A pair for each channel, and some that still wait for their timeout.
const PER_CHANNEL: usize = 2;
const SPARE: usize = 4;

/// The transports of one connection.
#[derive(Debug, Default)]
pub(crate) struct Transports {
    direction_by_id: HashMap<String, Direction>,
    /// The last one to receive that was opened for a channel.
    receiving_by_channel: HashMap<ChannelId, String>,
}

impl Transports {
    /// Is there room for one more, on so many channels?
    pub(crate) fn check_limit(&self, joined: usize) -> Result<(), Refusal> {
        let limit = joined * PER_CHANNEL + SPARE;
        if self.direction_by_id.len() < limit { Ok(()) } else { Err(Refusal::TransportLimit(limit)) }
    }

    pub(crate) fn add(&mut self, id: &str, direction: Direction, channel: &ChannelId) {
        self.direction_by_id.insert(id.to_owned(), direction);
        if direction == Direction::Recv {
            self.receiving_by_channel.insert(channel.clone(), id.to_owned());
        }
    }

    pub(crate) fn remove(&mut self, id: &str) {
        self.direction_by_id.remove(id);
        self.receiving_by_channel.retain(|_, receiving| receiving != id);
    }

    pub(crate) fn check(&self, id: &str) -> Result<(), Refusal> {
        if self.direction_by_id.contains_key(id) { Ok(()) } else { Err(Refusal::TransportNotFound(id.to_owned())) }
    }

    pub(crate) fn check_sends(&self, id: &str) -> Result<(), Refusal> {
        match self.direction_by_id.get(id) {
            Some(Direction::Send) => Ok(()),
            _ => Err(Refusal::TransportNotFound(id.to_owned())),
        }
    }

    /// The transport to receive a channel over: the one that the client names, else the one that it opened for the
    /// channel, else the only one that it has to receive.
    pub(crate) fn receiving(&self, id: Option<&str>, channel: &ChannelId) -> Result<String, Refusal> {
        let id = id.or_else(|| self.receiving_by_channel.get(channel).map(String::as_str)).or_else(|| self.only_one());
        match id.and_then(|id| self.direction_by_id.get_key_value(id)) {
            Some((id, Direction::Recv)) => Ok(id.clone()),
            _ => Err(Refusal::NoReceiveTransport),
        }
    }

    fn only_one(&self) -> Option<&str> {
        let mut receiving = self.direction_by_id.iter().filter(|(_, direction)| **direction == Direction::Recv);
        let (id, _) = receiving.next()?;
        receiving.next().is_none().then_some(id)
    }

    /// The connection has left a channel.
    pub(crate) fn forget_channel(&mut self, channel: &ChannelId) {
        self.receiving_by_channel.remove(channel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channels() -> (ChannelId, ChannelId) {
        ("a".into(), "b".into())
    }

    #[test]
    fn a_transport_is_used_in_its_direction_only() {
        let (a, _) = channels();
        let mut transports = Transports::default();
        transports.add("send", Direction::Send, &a);
        assert_eq!(transports.receiving(None, &a), Err(Refusal::NoReceiveTransport));
        transports.add("recv", Direction::Recv, &a);
        assert_eq!(transports.check_sends("send"), Ok(()));
        assert_eq!(transports.check_sends("recv"), Err(Refusal::TransportNotFound("recv".into())));
        assert_eq!(transports.receiving(Some("recv"), &a), Ok("recv".into()));
        assert_eq!(transports.receiving(Some("send"), &a), Err(Refusal::NoReceiveTransport));
        assert_eq!(transports.receiving(Some("other"), &a), Err(Refusal::NoReceiveTransport));
        transports.remove("recv");
        assert_eq!(transports.receiving(None, &a), Err(Refusal::NoReceiveTransport));
        assert_eq!(transports.check("recv"), Err(Refusal::TransportNotFound("recv".into())));
    }

    #[test]
    fn a_channel_is_received_over_its_own_transport_or_over_the_only_one() {
        let (a, b) = channels();
        let mut transports = Transports::default();
        transports.add("recv a", Direction::Recv, &a);
        assert_eq!(transports.receiving(None, &b), Ok("recv a".into()));
        transports.add("recv b", Direction::Recv, &b);
        assert_eq!(transports.receiving(None, &a), Ok("recv a".into()));
        assert_eq!(transports.receiving(None, &b), Ok("recv b".into()));
        transports.forget_channel(&b);
        assert_eq!(transports.receiving(None, &b), Err(Refusal::NoReceiveTransport), "either could be meant");
    }

    #[test]
    fn the_limit_grows_with_the_channels() {
        let (a, _) = channels();
        let mut transports = Transports::default();
        for count in 0..6 {
            assert_eq!(transports.check_limit(1), Ok(()));
            transports.add(&count.to_string(), Direction::Recv, &a);
        }
        assert_eq!(transports.check_limit(1), Err(Refusal::TransportLimit(6)));
        assert_eq!(transports.check_limit(2), Ok(()));
    }
}
