//! Who is let in, and how: TLS, addresses behind proxies, pages, guesses, connections that say nothing, tokens that end.

mod guests;
mod house;
mod tls;
mod token;
