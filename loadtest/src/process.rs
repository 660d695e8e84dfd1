//! What the deployment costs, where it runs on this machine: CPU time and memory of its processes, from `/proc`.
//!
//! Reads only. A process is found by its number, or by the port that it listens on: that needs to be its user or root.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

/// Unit of CPU times in `/proc`: USER_HZ is 100 on every architecture that this runs on (proc(5)).
const TICK: Duration = Duration::from_millis(10);

/// One process at one time.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// Its name and what it was told to do.
    pub(crate) name: String,
    /// User and kernel time of all its threads.
    pub(crate) cpu: Duration,
    /// Resident set.
    pub(crate) memory: u64,
}

/// The deployment's processes and the machine, at one time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples {
    pub(crate) by_pid: BTreeMap<u32, Sample>,
    pub(crate) own: Duration,
    /// Time that processors of this machine were busy.
    pub(crate) busy: Duration,
    /// Datagrams that the kernel dropped before the deployment read them.
    pub(crate) dropped: u64,
    /// Datagrams that it dropped before this process read them.
    pub(crate) own_dropped: u64,
}

impl Samples {
    /// Reads all there is. A process that has ended is left out.
    pub(crate) fn take(pids: impl IntoIterator<Item = u32>) -> Self {
        let by_pid: BTreeMap<u32, Sample> =
            pids.into_iter().filter_map(|pid| Some((pid, sample(&pid.to_string())?))).collect();
        let sockets = udp_sockets();
        let drops =
            |inodes: Vec<u64>| inodes.iter().filter_map(|inode| sockets.get(inode)).map(|(_, drops)| drops).sum();
        Self {
            own: sample("self").map_or(Duration::ZERO, |sample| sample.cpu),
            busy: busy().unwrap_or_default(),
            dropped: drops(by_pid.keys().flat_map(|pid| sockets_of(&pid.to_string())).collect()),
            own_dropped: drops(sockets_of("self")),
            by_pid,
        }
    }
}

/// Whether there is such a process.
pub(crate) fn exists(pid: u32) -> bool {
    sample(&pid.to_string()).is_some()
}

/// Other processes that run the program of one of these.
pub(crate) fn of_the_same_program(pids: &[u32]) -> Vec<u32> {
    let program = |pid: u32| fs::read_link(format!("/proc/{pid}/exe")).ok();
    let programs: Vec<_> = pids.iter().filter_map(|pid| program(*pid)).collect();
    processes().filter(|pid| program(*pid).is_some_and(|found| programs.contains(&found))).collect()
}

/// All but this one.
fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != std::process::id())
}

/// The processes that listen on this TCP address, or have one of these UDP addresses.
pub(crate) fn find(tcp: Option<SocketAddr>, udp: &[SocketAddr]) -> Vec<u32> {
    const LISTEN: &str = "0A";
    let mut wanted: Vec<u64> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .flat_map(|file| read_sockets(file))
        .filter(|socket| socket.state == LISTEN && Some(socket.port) == tcp.map(|tcp| tcp.port()))
        .map(|socket| socket.inode)
        .collect();
    let ports: Vec<u16> = udp.iter().map(SocketAddr::port).collect();
    wanted.extend(udp_sockets().into_iter().filter(|(_, (port, _))| ports.contains(port)).map(|(inode, _)| inode));
    processes().filter(|pid| sockets_of(&pid.to_string()).iter().any(|inode| wanted.contains(inode))).collect()
}

fn sample(pid: &str) -> Option<Sample> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may have any in itself; utime and stime are the 14th and 15th field of all.
    let (_, rest) = stat.rsplit_once(") ")?;
    let ticks = |field: usize| rest.split(' ').nth(field - 3)?.parse::<u32>().ok();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = resident.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Sample { name: name(pid)?, cpu: TICK * (ticks(14)? + ticks(15)?), memory: kibibytes * 1024 })
}

/// The program, and its command if it has one: `voiceping media-node`. Not its flags: secrets may be among them.
fn name(pid: &str) -> Option<String> {
    let program = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let command = arguments.split(|byte| *byte == 0).nth(1).map(String::from_utf8_lossy).unwrap_or_default();
    let is_command = !command.is_empty() && command.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-');
    Some(match is_command && !command.starts_with('-') {
        true => format!("{} {command}", program.trim()),
        false => program.trim().to_owned(),
    })
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal.
fn busy() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<u32> =
        stat.lines().next()?.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let idle = [3, 4, 7];
    Some(
        TICK * fields
            .iter()
            .enumerate()
            .take(8)
            .filter(|(at, _)| !idle.contains(at))
            .map(|(_, ticks)| ticks)
            .sum::<u32>(),
    )
}

/// The inodes of a process' sockets.
fn sockets_of(pid: &str) -> Vec<u64> {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let inode = |entry: fs::DirEntry| {
        let link = fs::read_link(entry.path()).ok()?;
        link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    files.flatten().filter_map(inode).collect()
}

/// Local port and dropped datagrams by inode.
fn udp_sockets() -> HashMap<u64, (u16, u64)> {
    let sockets = ["/proc/net/udp", "/proc/net/udp6"].iter().flat_map(|file| read_sockets(file));
    sockets.map(|socket| (socket.inode, (socket.port, socket.drops))).collect()
}

struct Socket {
    port: u16,
    state: String,
    inode: u64,
    drops: u64,
}

fn read_sockets(file: &str) -> Vec<Socket> {
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, port) = fields.get(1)?.rsplit_once(':')?;
        Some(Socket {
            port: u16::from_str_radix(port, 16).ok()?,
            state: (*fields.get(3)?).to_owned(),
            inode: fields.get(9)?.parse().ok()?,
            // Only datagram sockets have it, and it is their last field.
            drops: fields.last()?.parse().unwrap_or(0),
        })
    };
    fs::read_to_string(file).unwrap_or_default().lines().skip(1).filter_map(socket).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn a_process_has_a_name_memory_and_time() {
        let own = sample("self").expect("we run");
        assert!(own.memory > 100_000 && !own.name.is_empty());
        assert!(exists(std::process::id()) && !exists(u32::MAX));
        // Spins until time has passed by each of the two clocks, which the kernel does not advance together.
        let busy_before = busy().expect("there is a machine");
        let mut samples = Samples::take([std::process::id()]);
        while samples.own <= own.cpu + TICK || samples.busy <= busy_before {
            samples = Samples::take([std::process::id()]);
        }
        assert_eq!(samples.by_pid.len(), 1);
    }

    #[test]
    fn sockets_are_found_by_their_port() {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let (tcp, udp) = (tcp.local_addr().expect("bound"), udp.local_addr().expect("bound"));
        // Ourselves are left out, and nobody else has these ports.
        assert!(find(Some(tcp), &[udp]).is_empty());
        let own = sockets_of("self");
        let listening = read_sockets("/proc/net/tcp");
        assert!(listening.iter().any(|socket| socket.port == tcp.port() && own.contains(&socket.inode)));
        assert!(udp_sockets().iter().any(|(inode, (port, _))| *port == udp.port() && own.contains(inode)));
    }
}
