//! The sink `discard`: takes rows and keeps none.

use async_trait::async_trait;
use pipeline_stage::{
    BuiltSink, Claim, Commit, Delivery, EpochRows, Owner, Result, Sink, SinkContext, SinkOptions, StageOptions,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// Takes rows and keeps none, for measuring a pipeline without its outputs.
///
/// The rows are counted in the run's books like those of any other sink.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiscardOptions {}

impl StageOptions for DiscardOptions {
    const NAME: &'static str = "discard";
    const EXAMPLE: &'static str = "
nowhere:
  type: discard
  inputs: [readings]
";
}

impl SinkOptions for DiscardOptions {
    fn build(self, _context: SinkContext) -> Result<BuiltSink> {
        Ok(BuiltSink::Epochs(Box::new(Discard)))
    }
}

struct Discard;

#[async_trait]
impl Sink for Discard {
    fn delivery(&self) -> Delivery {
        // Nothing is kept, so a restart has nothing to cut.
        Delivery::Truncating
    }

    async fn claim(&mut self, owner: &Owner) -> Result<Claim> {
        owner.stored_claim()
    }

    async fn commit(&mut self, _epochs: &[EpochRows]) -> Result<Commit> {
        Ok(Commit::Done(Vec::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::fixtures::{built, epoch, owner, readings};

    #[tokio::test]
    async fn goes_on_after_the_epoch_that_the_engine_remembers() {
        let mut sink = built::<DiscardOptions>("{}", &readings()).unwrap();
        assert_eq!(sink.claim(&owner(None)).await.unwrap(), Claim::New);
        let first = epoch("0", 1, &readings());
        assert!(matches!(sink.commit(std::slice::from_ref(&first)).await.unwrap(), Commit::Done(_)));
        assert_eq!(sink.claim(&owner(Some(first.mark.clone()))).await.unwrap(), Claim::At(first.mark));
    }

    #[tokio::test]
    async fn a_task_with_a_later_owner_is_lost() {
        let mut sink = built::<DiscardOptions>("{}", &readings()).unwrap();
        let mut mark = epoch("0", 1, &readings()).mark;
        mark.generation = 9;
        let error = sink.claim(&owner(Some(mark))).await.unwrap_err();
        assert_eq!(error.kind(), pipeline_stage::ErrorKind::Lost);
    }
}
