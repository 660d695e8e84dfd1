//! The committed baselines, and the comparison with them. A module of each test that counts something; std alone.

/// See there.
const FILE: &str = include_str!("baselines.txt");

/// Fails if something costs more than its baseline allows.
#[allow(clippy::print_stdout)] // the figures are what somebody who runs the test wants to see
pub(crate) fn check(name: &str, measured: f64) {
    let (was, most) = find(name);
    println!("baseline · {name}: {measured:.3}, was {was}, at most {most}");
    assert!(
        measured <= most,
        "{name} has grown to {measured:.3}: it was {was}, and {most} is allowed. Find out what costs more; if it is worth it, \
         say so in bench/baselines.txt"
    );
}

fn find(name: &str) -> (f64, f64) {
    let lines = FILE.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let fields = lines.into_iter().find(|fields| fields.first() == Some(&name));
    let number = |at: usize| fields.as_ref().and_then(|fields| fields.get(at)?.parse().ok());
    match (number(1), number(2)) {
        (Some(was), Some(most)) => (was, most),
        _ => panic!("bench/baselines.txt has no line for {name} with two numbers"),
    }
}
