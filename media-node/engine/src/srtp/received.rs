//! What has been received of one stream: the packet index that a sequence number stands for (RFC 3711 section 3.3.1), and
//! whether a packet was here before (section 3.3.2).

/// Packets that may arrive out of order and still be accepted; the RFC asks for 64 at least.
const WINDOW: u64 = u128::BITS as u64;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received {
    highest: u64,
    /// Bit n: the packet n below the highest was here.
    seen: u128,
}

impl Received {
    /// Begins with this packet.
    pub(super) fn starting_with(index: u64) -> Self {
        Self { highest: index, seen: 1 }
    }

    /// The index nearest to the highest one with this sequence number.
    pub(super) fn index(&self, sequence_number: u16) -> u64 {
        let ahead = i64::from(sequence_number.wrapping_sub(self.highest as u16) as i16);
        // Before the first rollover there is nothing to go back to: then it is far ahead.
        self.highest.checked_add_signed(ahead).unwrap_or(self.highest + (ahead + (1 << 16)) as u64)
    }

    /// Whether this index was here, or is too old to tell.
    pub(super) fn has_seen(&self, index: u64) -> bool {
        match self.highest.checked_sub(index) {
            Some(behind) if behind >= WINDOW => true,
            Some(behind) => self.seen >> behind & 1 == 1,
            None => false,
        }
    }

    /// Notes a packet that is authentic and has not been seen.
    pub(super) fn add(&mut self, index: u64) {
        match self.highest.checked_sub(index) {
            Some(behind) => self.seen |= 1 << behind,
            None => {
                let ahead = index - self.highest;
                self.seen = if ahead < WINDOW { self.seen << ahead | 1 } else { 1 };
                self.highest = index;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_packet_is_accepted_once_under_its_true_index(steps in proptest::collection::vec(-200_i64..3000, 1..300)) {
            let first = 40_000_u64;
            let mut received = Received::starting_with(first);
            let (mut seen, mut highest) = (HashSet::from([first]), first);
            for step in steps {
                let index = highest.saturating_add_signed(step);
                prop_assert_eq!(received.index(index as u16), index);
                let expected = seen.contains(&index) || highest.saturating_sub(index) >= WINDOW;
                prop_assert_eq!(received.has_seen(index), expected, "{} of {}", index, highest);
                if !expected {
                    received.add(index);
                    seen.insert(index);
                    highest = highest.max(index);
                }
            }
        }
    }

    #[test]
    fn nothing_comes_before_the_first_index() {
        let received = Received::starting_with(3);
        assert_eq!((received.index(2), received.index(65_535)), (2, 65_535));
        assert_eq!(Received::starting_with(65_535).index(0), 65_536);
    }
}
