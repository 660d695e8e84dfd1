//! Hosts on one machine: network namespaces on a bridge, between which a test cuts what it likes.
//!
//! A cut is silent, as in life: frames go to a hardware address that nobody has. The test itself, its clients and Redis
//! are on the bridge's own address. Everything ends when it is dropped.

use std::process::Command;

use anyhow::{Context, Result, ensure};

/// See the module.
pub(crate) struct Network {
    bridge: String,
    /// The first three bytes of all addresses.
    prefix: String,
    hosts: Vec<String>,
}

/// A host by its number.
pub(crate) type Host = usize;

/// Nobody's.
const NOWHERE: &str = "02:00:00:00:00:01";

impl Network {
    /// A network with so many hosts. `None`: whoever runs the tests may not make one, which is said.
    pub(crate) fn new(hosts: usize) -> Result<Option<Self>> {
        // Interface names have 15 characters; the numbers of tests that run at a time differ.
        let number: u16 = rand::random();
        let bridge = format!("vp{number:04x}");
        if ip(&["link", "add", &bridge, "type", "bridge"]).is_err() {
            eprintln!("skipped: this test needs root, to make network namespaces");
            return Ok(None);
        }
        let prefix = format!("10.{}.{}", 128 + (number >> 8) % 64, number & 0xff);
        let mut network = Self { bridge, prefix, hosts: Vec::new() };
        ip(&["addr", "add", &format!("{}.1/24", network.prefix), "dev", &network.bridge])?;
        ip(&["link", "set", &network.bridge, "up"])?;
        for _ in 0..hosts {
            network.add_host()?;
        }
        Ok(Some(network))
    }

    fn add_host(&mut self) -> Result<()> {
        let number = self.hosts.len();
        let name = format!("{}-{number}", self.bridge);
        ip(&["netns", "add", &name])?;
        self.hosts.push(name.clone());
        ip(&["link", "add", &name, "type", "veth", "peer", "name", "eth0", "netns", &name])?;
        ip(&["link", "set", &name, "master", &self.bridge, "up"])?;
        ip(&["-n", &name, "addr", "add", &format!("{}/24", self.address(number)), "dev", "eth0"])?;
        ip(&["-n", &name, "link", "set", "eth0", "up"])?;
        ip(&["-n", &name, "link", "set", "lo", "up"])
    }

    /// The address of the test itself, its clients and Redis.
    pub(crate) fn own_address(&self) -> String {
        format!("{}.1", self.prefix)
    }

    /// A host's address.
    pub(crate) fn address(&self, host: Host) -> String {
        format!("{}.{}", self.prefix, 10 + host)
    }

    /// What comes before a command that is to run on a host. The process that it starts becomes the command's.
    pub(crate) fn on(&self, host: Host) -> [&str; 4] {
        ["ip", "netns", "exec", &self.hosts[host]]
    }

    /// Nothing passes between two hosts any more.
    pub(crate) fn cut(&self, a: Host, b: Host) -> Result<()> {
        for (from, to) in [(a, b), (b, a)] {
            let to = self.address(to);
            ip(&[
                "-n",
                &self.hosts[from],
                "neigh",
                "replace",
                &to,
                "lladdr",
                NOWHERE,
                "dev",
                "eth0",
                "nud",
                "permanent",
            ])?;
        }
        Ok(())
    }

    /// Everything passes again.
    pub(crate) fn heal(&self, a: Host, b: Host) -> Result<()> {
        for (from, to) in [(a, b), (b, a)] {
            ip(&["-n", &self.hosts[from], "neigh", "del", &self.address(to), "dev", "eth0"])?;
        }
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // What is not there any more needs no removing.
        for host in &self.hosts {
            let _ = ip(&["netns", "del", host]);
        }
        let _ = ip(&["link", "del", &self.bridge]);
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("ip: apt-get install iproute2")?;
    ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    Ok(())
}
