//! Who the members are: which channel, who speaks, who comes late, who runs on the independent client.

use crate::args::{Args, Microphones};

/// One member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) number: u32,
    pub(crate) channel: u32,
    /// Presses to talk.
    pub(crate) speaks: bool,
    /// Has a transport to send, and a producer.
    pub(crate) microphone: bool,
    /// Joins while the others talk.
    pub(crate) late: bool,
    /// Runs on the `webrtc` crate.
    pub(crate) independent: bool,
    /// Has no media.
    pub(crate) quiet: bool,
}

/// All of them. Members of one channel are neighbours: they share sockets, and their packets come together.
pub(crate) fn members(args: &Args) -> Vec<Member> {
    let (members, channels) = (args.members, args.channels);
    // The first of a channel speak; those who come late are taken from its end, so that they are listeners if they can.
    let mut place = vec![0; channels as usize];
    let mut plan: Vec<(u32, Member)> = (0..members)
        .map(|number| {
            let channel = (u64::from(number) * u64::from(channels) / u64::from(members)) as u32;
            let place = &mut place[channel as usize];
            *place += 1;
            let speaks = *place <= args.speakers_per_channel;
            let microphone = speaks || args.microphones == Microphones::All;
            // One in so many, from the middle of each stretch.
            let share = |at: u32| u64::from(at) * u64::from(args.webrtc_crate) / u64::from(members);
            let independent = share(number) != share(number + 1);
            (*place, Member { number, channel, speaks, microphone, late: false, independent, quiet: false })
        })
        .collect();
    plan.sort_by_key(|(place, member)| (std::cmp::Reverse(*place), member.channel));
    plan.iter_mut().take(args.late_members() as usize).for_each(|(_, member)| member.late = true);
    plan.sort_by_key(|(_, member)| member.number);
    let quiet = (0..args.quiet_members).map(|number| {
        let channel = (u64::from(number) * u64::from(channels) / u64::from(args.quiet_members)) as u32;
        let number = members + number;
        Member { number, channel, speaks: false, microphone: false, late: false, independent: false, quiet: true }
    });
    plan.into_iter().map(|(_, member)| member).chain(quiet).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::parse;

    fn plan(flags: &[&str]) -> Vec<Member> {
        members(&parse(flags).expect("valid"))
    }

    #[test]
    fn every_channel_has_its_members_and_its_speakers() {
        let plan =
            plan(&["--members", "103", "--channels", "10", "--speakers-per-channel", "3", "--webrtc-crate", "7"]);
        for channel in 0..10 {
            let here: Vec<_> = plan.iter().filter(|member| member.channel == channel).collect();
            assert!((10..=11).contains(&here.len()), "{} members", here.len());
            assert_eq!(here.iter().filter(|member| member.speaks).count(), 3);
        }
        assert!(plan.iter().all(|member| member.microphone));
        assert!(plan.is_sorted_by_key(|member| (member.number, member.channel)));
        assert_eq!(plan.iter().filter(|member| member.independent).count(), 7);
        assert_eq!(plan.iter().filter(|member| member.late).count(), 5);
        assert!(plan.iter().all(|member| !(member.late && member.speaks)));
    }

    #[test]
    fn members_without_media_are_spread_over_the_channels() {
        let plan = plan(&["--members", "100", "--channels", "10", "--quiet-members", "50"]);
        let quiet: Vec<_> = plan.iter().filter(|member| member.quiet).collect();
        assert_eq!((plan.len(), quiet.len()), (150, 50));
        for channel in 0..10 {
            assert_eq!(quiet.iter().filter(|member| member.channel == channel).count(), 5);
        }
        assert!(quiet.iter().all(|member| !(member.speaks || member.microphone || member.late)));
        assert!(plan.iter().enumerate().all(|(at, member)| member.number == at as u32));
    }

    #[test]
    fn microphones_can_be_the_speakers_only() {
        let plan = plan(&["--microphones", "speakers"]);
        assert!(plan.iter().all(|member| member.microphone == member.speaks));
    }
}
