//! Connections that have shown no token yet: how many there may be, in all and of one address.
//!
//! Who connects and says nothing costs a file descriptor and some memory until its time is over; here is the limit on how
//! many do that together. A connection that has become a WebSocket is no guest any more.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use super::attempts::network;

/// All of them. With what the system keeps for each it is some tens of megabytes.
const IN_ALL: usize = 8192;

/// Of one address, behind which there may be a thousand people who come at once.
const OF_ONE: usize = 1024;

/// The guests of a port.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guests(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    count: usize,
    count_by_network: HashMap<IpAddr, usize>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Guest {
    guests: Guests,
    of: Option<IpAddr>,
}

impl Guests {
    /// One more, of this address; of any number, if it is that of a proxy (`None`). `None`: there are too many.
    pub(super) fn enter(&self, of: Option<IpAddr>) -> Option<Guest> {
        let of = of.map(network);
        let mut inner = self.0.lock().expect("nothing panics under the lock");
        if inner.count >= IN_ALL {
            return None;
        }
        if let Some(of) = of {
            let count = inner.count_by_network.entry(of).or_default();
            if *count >= OF_ONE {
                return None;
            }
            *count += 1;
        }
        inner.count += 1;
        drop(inner);
        Some(Guest { guests: self.clone(), of })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut inner = self.guests.0.lock().expect("nothing panics under the lock");
        inner.count -= 1;
        if let Some(of) = self.of
            && let Some(count) = inner.count_by_network.get_mut(&of)
        {
            *count -= 1;
            if *count == 0 {
                inner.count_by_network.remove(&of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_takes_its_own_room_only_and_gives_it_back() {
        let guests = Guests::default();
        let address = |text: &str| Some(text.parse().expect("an address"));
        let mut crowd: Vec<_> = (0..OF_ONE).map(|_| guests.enter(address("192.0.2.1")).expect("room")).collect();
        assert!(guests.enter(address("192.0.2.1")).is_none());
        assert!(guests.enter(address("192.0.2.2")).is_some());
        crowd.pop();
        assert!(guests.enter(address("192.0.2.1")).is_some());
        drop(crowd);
        assert_eq!(guests.0.lock().expect("not poisoned").count_by_network.len(), 0);
    }

    #[test]
    fn all_together_have_a_limit_too() {
        let guests = Guests::default();
        let crowd: Vec<_> = (0..IN_ALL).map(|_| guests.enter(None).expect("room")).collect();
        assert!(guests.enter(None).is_none());
        drop(crowd);
        assert!(guests.enter(None).is_some());
    }
}
