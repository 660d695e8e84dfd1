//! The floors of a run. Here that under the CPU time of a forwarded packet: what a bare `sendmmsg` loop costs on this machine,
//! in the same run, with packets of the same size, in the same rhythm, to the very sockets that the members listened with.
//!
//! On loopback the sender pays for the receiver's half of the kernel too, and for waking it; so a ratio to this floor says
//! what the deployment adds, and the absolute time does not.

pub(crate) mod writes;

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use voiceping_media_node::io::{self, Sender};

use crate::traffic::FRAME;

/// How long it is measured.
const DURATION: Duration = Duration::from_secs(5);

/// Bytes of a sealed packet: header and audio level, the recording's mean with its stamp, the tag of an AEAD profile.
const PACKET: usize = 20 + 112 + 16;

/// CPU time for each packet, in nanoseconds, when `talks` go on whose listeners share the addresses. `None`: it cannot be
/// measured here.
pub(crate) fn measure(addresses: &[SocketAddr], talks: usize) -> Option<f64> {
    let socket = io::bind(SocketAddr::from(([127, 0, 0, 1], 0))).ok()?;
    let mut sender = Sender::default();
    let channels: Vec<&[SocketAddr]> = addresses.chunks(addresses.len().div_ceil(talks.max(1)).max(1)).collect();
    let step = FRAME / u32::try_from(channels.len()).ok().filter(|count| *count > 0)?;
    let (mut due, mut sent, before) = (Instant::now(), 0_u64, cpu()?);
    let end = due + DURATION;
    for channel in channels.iter().cycle() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        for address in *channel {
            if sender.is_full() {
                sender.flush(&socket);
            }
            // No first byte of any protocol: it is thrown away at once.
            sender.buffer()[..PACKET].fill(0xff);
            sender.push(PACKET, *address);
        }
        sender.flush(&socket);
        sent += channel.len() as u64;
        due += step;
        if due > end {
            break;
        }
    }
    Some(cpu()?.saturating_sub(before).as_nanos() as f64 / sent as f64)
}

/// CPU time of this thread.
fn cpu() -> Option<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_packet_costs_something() {
        let sinks: Vec<UdpSocket> = (0..4).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a port")).collect();
        let addresses: Vec<SocketAddr> = sinks.iter().map(|sink| sink.local_addr().expect("bound")).collect();
        let cost = measure(&addresses, 2).expect("loopback");
        assert!((100.0..10_000_000.0).contains(&cost), "{cost} ns");
        assert_eq!(measure(&[], 2), None);
    }
}
