//! A plan as a picture: for a terminal, as Mermaid and as Graphviz. Secrets are in none of them.

mod dot;
mod mermaid;
mod outlook;
pub mod summary;
mod text;

pub use dot::dot;
pub use mermaid::mermaid;
pub use outlook::outlook;
pub use text::text;

#[cfg(test)]
mod tests;
