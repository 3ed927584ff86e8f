//! Schemas of small made-up stages.
