//! The contract of [`voiceping_state::State`] and [`voiceping_state::Nodes`], as functions over any backend.

pub(crate) mod bus;
pub(crate) mod claims;
pub(crate) mod floor;
pub(crate) mod lease;
pub(crate) mod members;
pub(crate) mod moves;
pub(crate) mod nodes;

/// Runs the whole suite against a harness.
macro_rules! contract_suite {
    ($harness:ty) => {
        contract_suite!($harness, crate::contract::floor, floor: [
            a_press_is_granted_and_announced
            asking_again_is_the_same_talk
            a_second_presser_is_told_who_speaks
            releasing_what_is_not_yours_changes_nothing
            a_release_is_announced_once_with_its_cause
            another_device_takes_over_only_the_talk_that_it_names
            of_many_who_press_at_once_one_speaks
            channels_do_not_disturb_each_other
        ]);
        contract_suite!($harness, crate::contract::lease, lease: [
            an_expiry_is_announced_once_however_many_ask
            a_press_past_the_lease_is_one_change
            a_long_talk_is_renewed
            only_the_holder_renews_its_own_talk
            a_lease_that_ended_is_not_renewed_though_nobody_has_noticed
            a_talk_limit_ends_a_talk_that_is_renewed
            a_clock_set_back_keeps_no_dead_holder
            a_clock_set_back_lowers_no_epoch
        ]);
        contract_suite!($harness, crate::contract::members, members: [
            a_user_is_counted_and_announced_once
            twenty_sockets_close_in_any_order
            a_join_is_ordered_among_the_announced_changes
            repeating_a_join_or_a_leave_changes_nothing
            members_are_listed_by_name
            a_full_channel_refuses_users_but_not_devices
            leaving_frees_the_floor_first
            another_device_leaving_leaves_the_floor_alone
            a_leave_frees_the_floor_of_who_was_no_member
        ]);
        contract_suite!($harness, crate::contract::moves, moves: [
            a_member_that_moves_is_not_announced_and_its_old_gateway_has_no_say
            a_floor_moves_with_a_join
            a_floor_moves_with_a_press
            a_renewal_says_where_the_gate_is
            a_floor_outlives_a_move_without_a_membership
            a_connection_may_move_back
        ]);
        contract_suite!($harness, crate::contract::claims, claims: [
            of_many_who_claim_a_key_one_has_it
            a_claim_ends_by_itself
        ]);
        contract_suite!($harness, crate::contract::bus, bus: [
            only_watched_channels_are_heard
            watching_twice_is_watching_once
            nothing_is_heard_after_unwatching
            every_gateway_hears_every_change_once_in_one_order
            a_snapshot_after_watching_leaves_no_gap
            giving_up_on_next_loses_nothing
        ]);
        contract_suite!($harness, crate::contract::nodes, nodes: [
            a_node_is_listed_until_its_lease_ends
            registering_again_renews_and_tells_the_news
            a_node_that_leaves_is_gone_at_once
            a_clock_set_back_keeps_no_dead_node
            a_watch_tells_what_is_new
        ]);
        contract_suite!($harness, crate::races, races: [
            racing_gateways_agree
        ]);
        contract_suite!($harness, crate::schedules, schedules, sync: [
            any_schedule_is_announced_as_it_happened
        ]);
    };
    ($harness:ty, $module:path, $name:ident: [$($test:ident)*]) => {
        mod $name {
            use super::*;
            use $module as suite;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    suite::$test::<$harness>().await;
                }
            )*
        }
    };
    ($harness:ty, $module:path, $name:ident, sync: [$($test:ident)*]) => {
        mod $name {
            use super::*;
            use $module as suite;
            $(
                #[test]
                fn $test() {
                    suite::$test::<$harness>();
                }
            )*
        }
    };
}
