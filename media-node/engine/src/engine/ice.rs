//! Connectivity and handshake: STUN checks, DTLS datagrams, their timers, and the end of a transport.

use std::time::{Duration, Instant};

use super::{ClosedReason, Engine, GatewayEvent, Outbound};
use crate::channel::TransportKey;
use crate::dtls::{Association, Event, Failure, Role};
use crate::stun::BindingRequest;
use crate::timers::Timer;
use crate::transport::{Path, Transport};

/// A path whose last check is older than this gives way to another that passes one, nominated or not: the client has moved.
const STALE_PATH: Duration = Duration::from_secs(3);

/// The association of a handshake that has been over for as long as one may take is let go of: its library keeps all that the
/// handshake needed, nine tenths of a transport's memory.
const SETTLED: Duration = Duration::from_secs(30);

/// A client that says something in DTLS after that, which can only be goodbye, and then makes no check for this long is gone.
/// Nobody can tell any more whether it was the client who said it, and whoever is there makes checks: browsers every 2.5 s, and
/// none less often than every 6 (RFC 7675 section 5.1).
const FAREWELL: Duration = Duration::from_secs(8);

/// A DTLS timer further away than this is not a handshake's: it needs no entry.
const DTLS_IDLE: Duration = Duration::from_secs(3600);

impl Engine {
    pub(super) fn handle_stun(&mut self, now: Instant, path: Path, datagram: &[u8], out: &mut impl Outbound) {
        let Some(mut request) = BindingRequest::parse(datagram) else { return };
        let Some(&key) = self.transport_by_ufrag.get(request.local_ufrag()) else { return };
        let Some(password) = self.transports[key].password(request.local_ufrag()) else { return };
        if !request.is_authentic(password) || self.is_in_use_by_another(now, path, key) {
            return;
        }
        let Some(response) = request.success(password, path.remote) else { return };
        send(out, &response, path);

        let transport = &mut self.transports[key];
        if request.local_ufrag() == transport.ice.ufrag
            && let Some(before) = transport.ice_before.take()
        {
            self.transport_by_ufrag.remove(&before.ufrag);
        }
        if transport.last_check.replace(now).is_none() {
            self.timers.set(now + self.config.ice_timeout, Timer::Ice(key));
        }
        transport.farewell = None;
        let forgotten = transport.add_path(path);
        let stale = !transport.is_selected_fresh(now, STALE_PATH);
        if request.use_candidate() || stale || transport.selected == Some(path) {
            transport.selected = Some(path);
            transport.selected_checked = Some(now);
        }
        if let Some(forgotten) = forgotten {
            self.forget_path(forgotten, key);
        }
        self.transport_by_path.insert(path, key);
        self.start_handshake(now, key, out);
    }

    /// Whether somebody has passed a check over this path. A TCP connection over which nobody has is not worth keeping.
    pub fn knows_path(&self, path: &Path) -> bool {
        self.transport_by_path.contains_key(path)
    }

    /// A TCP connection has ended. Its client is sent nothing until a check comes another way.
    pub fn lose_path(&mut self, path: Path) {
        let Some(key) = self.transport_by_path.remove(&path) else { return };
        let transport = &mut self.transports[key];
        transport.paths.retain(|other| *other != path);
        if transport.selected == Some(path) {
            transport.selected = None;
            transport.selected_checked = None;
        }
    }

    /// Takes a path out of the table, if it is still this transport's.
    pub(super) fn forget_path(&mut self, path: Path, key: TransportKey) {
        if self.transport_by_path.get(&path) == Some(&key) {
            self.transport_by_path.remove(&path);
            if path.is_stream() {
                self.events.push_back(super::Event::StreamUnused(path));
            }
        }
    }

    /// Whether another client talks over this path: nobody can take it away by forging its address.
    fn is_in_use_by_another(&self, now: Instant, path: Path, key: TransportKey) -> bool {
        let owner = self.transport_by_path.get(&path).filter(|owner| **owner != key);
        owner
            .and_then(|owner| self.transports.get(*owner))
            .is_some_and(|owner| owner.selected == Some(path) && owner.is_selected_fresh(now, STALE_PATH))
    }

    /// Starts our side of the handshake, if we are the client and know where to send and whom to expect.
    pub(super) fn start_handshake(&mut self, now: Instant, key: TransportKey, out: &mut impl Outbound) {
        let transport = &mut self.transports[key];
        let Some((Role::Server, fingerprints)) = &transport.remote else { return };
        let Some(path) = transport.selected.filter(|_| transport.association.is_none() && transport.srtp.is_none())
        else {
            return;
        };
        let mut association = Association::new(&self.config.identity, Role::Client, now);
        association.expect_fingerprints(fingerprints);
        let event = association.handle_timeout(now, &mut |bytes| send(out, bytes, path));
        transport.association = Some(Box::new(association));
        self.after_dtls(now, key, event);
    }

    pub(super) fn handle_dtls(&mut self, now: Instant, path: Path, datagram: &[u8], out: &mut impl Outbound) {
        let Some(&key) = self.transport_by_path.get(&path) else { return };
        let transport = &mut self.transports[key];
        if transport.association.is_none() && transport.srtp.is_some() {
            if transport.farewell.is_none() {
                transport.farewell = Some(now);
                self.timers.set(now + FAREWELL, Timer::Farewell(key));
            }
            return;
        }
        if transport.association.is_none() {
            if let Some((Role::Server, _)) = transport.remote {
                return; // we speak first
            }
            let mut association = Association::new(&self.config.identity, Role::Server, now);
            if let Some((_, fingerprints)) = &transport.remote {
                association.expect_fingerprints(fingerprints);
            }
            transport.association = Some(Box::new(association));
        }
        let Some(association) = &mut transport.association else { return };
        let event = association.handle_datagram(now, datagram, &mut |bytes| send(out, bytes, path));
        self.after_dtls(now, key, event);
    }

    pub(super) fn dtls_timeout(&mut self, now: Instant, key: TransportKey, out: &mut impl Outbound) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        transport.dtls_timer = None;
        let (Some(association), Some(path)) = (&mut transport.association, transport.selected) else { return };
        let event = match association.poll_timeout() {
            Some(at) if at <= now => association.handle_timeout(now, &mut |bytes| send(out, bytes, path)),
            _ => None,
        };
        self.after_dtls(now, key, event);
    }

    /// Draws the consequences of what an association said and sees that its next timer is in the table.
    pub(super) fn after_dtls(&mut self, now: Instant, key: TransportKey, event: Option<Event>) {
        let transport = &mut self.transports[key];
        if let Some(at) = transport.association.as_ref().and_then(|association| association.poll_timeout())
            && at < now + DTLS_IDLE
            && transport.dtls_timer.is_none_or(|set| at < set)
        {
            transport.dtls_timer = Some(at);
            self.timers.set(at, Timer::Dtls(key));
        }
        match event {
            None => {}
            Some(Event::Connected(srtp)) => {
                transport.srtp = Some(srtp);
                self.timers.set(now + SETTLED, Timer::Settled(key));
                self.counters.connected += 1;
                self.counters.connected_now += 1;
                let (gateway, connection, id) =
                    (transport.gateway.clone(), transport.connection.clone(), transport.id.clone());
                self.emit(&gateway, GatewayEvent::TransportConnected(connection, id));
            }
            Some(Event::CloseNotify) => self.lose_transport(now, key, ClosedReason::CloseNotify),
            Some(Event::Failed(Failure::Protocol)) => self.lose_transport(now, key, ClosedReason::DtlsFailed),
            Some(Event::Failed(Failure::Fingerprint)) => {
                self.lose_transport(now, key, ClosedReason::FingerprintMismatch);
            }
        }
    }

    /// Lets go of an association that has nothing to do any more.
    pub(super) fn settle(&mut self, now: Instant, key: TransportKey) {
        if let Some(transport) = self.transports.get_mut(key)
            && let Some(association) = transport.association.take()
        {
            transport.goodbye = association.into_goodbye(now);
        }
    }

    pub(super) fn check_ice(&mut self, now: Instant, key: TransportKey) {
        let Some(transport) = self.transports.get(key) else { return };
        let Some(last_check) = transport.last_check else { return };
        let deadline = last_check + self.config.ice_timeout;
        if deadline <= now {
            self.lose_transport(now, key, ClosedReason::IceTimeout);
        } else {
            self.timers.set(deadline, Timer::Ice(key));
        }
    }

    pub(super) fn check_farewell(&mut self, now: Instant, key: TransportKey) {
        let said = self.transports.get(key).and_then(|transport| transport.farewell);
        if said.is_some_and(|at| at + FAREWELL <= now) {
            self.lose_transport(now, key, ClosedReason::CloseNotify);
        }
    }

    fn lose_transport(&mut self, now: Instant, key: TransportKey, reason: ClosedReason) {
        if let Some(transport) = self.remove_transport(now, key) {
            let counters = &mut self.counters;
            match reason {
                ClosedReason::IceTimeout => counters.closed_ice_timeout += 1,
                ClosedReason::DtlsFailed => counters.closed_dtls_failed += 1,
                ClosedReason::FingerprintMismatch => counters.closed_fingerprint += 1,
                ClosedReason::CloseNotify => counters.closed_close_notify += 1,
            }
            let Transport { gateway, connection, id, .. } = transport;
            self.emit(&gateway, GatewayEvent::TransportClosed(connection, id, reason));
        }
    }
}

/// Copies a datagram that is not on the hot path into the batch.
pub(super) fn send(out: &mut impl Outbound, bytes: &[u8], path: Path) {
    if let Some(buffer) = out.buffer().get_mut(..bytes.len()) {
        buffer.copy_from_slice(bytes);
        out.send(bytes.len(), path);
    }
}
