//! The worker's side of Signalbox: a hot cache that a watch stream keeps up to date.

mod backoff;
mod entry;
mod events;
mod getters;
mod replica;
mod secret;
mod selector;
mod settings;
mod snapshot;
