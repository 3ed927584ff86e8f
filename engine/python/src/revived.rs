//! A process that is started again when it has ended: sources and sinks serve several tasks, each of which begins again
//! by itself.

use std::sync::Arc;

use pipeline_stage::{Result, StageError};
use serde_json::{Map, Value};

use crate::frame::Frame;
use crate::plugin::Launch;
use crate::process::Process;

/// See the module.
pub struct Revived {
    launch: Arc<Launch>,
    stage: String,
    /// The question that makes the stage, with its bodies.
    build: (Map<String, Value>, Vec<Vec<u8>>),
    process: Option<Process>,
    life: u64,
}

impl Revived {
    /// Starts it, and gives the answer to `build`.
    pub fn start(
        launch: &Arc<Launch>,
        stage: &str,
        build: Map<String, Value>,
        bodies: Vec<Vec<u8>>,
    ) -> Result<(Self, Frame)> {
        let mut revived =
            Revived { launch: launch.clone(), stage: stage.into(), build: (build, bodies), process: None, life: 0 };
        let built = revived.revive()?;
        Ok((revived, built))
    }

    fn revive(&mut self) -> Result<Frame> {
        let mut process = self.launch.start(&self.stage)?;
        let bodies: Vec<&[u8]> = self.build.1.iter().map(Vec::as_slice).collect();
        let built = process.call(self.build.0.clone(), &bodies)?;
        self.process = Some(process);
        self.life += 1;
        Ok(built)
    }

    /// Which of its lives this is: what was opened in an earlier one is gone.
    pub fn life(&self) -> u64 {
        self.life
    }

    /// It is to be started again: what it knew is gone.
    pub fn has_ended(&self) -> bool {
        self.process.is_none()
    }

    /// Asks, after it was started again if it had ended. `Lost` when it ends now.
    pub fn call(&mut self, header: Map<String, Value>, bodies: &[&[u8]]) -> Result<Frame> {
        let process = match &mut self.process {
            Some(process) => process,
            None => {
                self.revive()?;
                self.process.as_mut().ok_or_else(|| StageError::lost("the process has ended"))?
            }
        };
        let answer = process.call(header, bodies);
        if process.has_ended() {
            self.process = None;
        }
        answer
    }
}
