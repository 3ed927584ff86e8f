//! `pipeline schema`: the JSON Schema of pipeline files, for editors.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use pipeline_runtime::schema;
use pipeline_stage::Registry;

use crate::plugins::LibraryArgs;
use crate::{FAILED, WRONG, complain, print};

/// Print the JSON Schema of pipeline files
///
/// Editors complete and check pipeline files with it: begin a file with the comment
/// `# yaml-language-server: $schema=schemas/pipeline.schema.json`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Write it into a folder, with one schema for each stage below `stages/`
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write a page in Markdown for each stage into a folder
    #[arg(long, value_name = "DIR")]
    docs: Option<PathBuf>,
    /// Write the list of what `/metrics` has, in Markdown, into a file
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
    #[command(flatten)]
    pub libraries: LibraryArgs,
}

/// Runs the command.
pub fn run(args: &SchemaArgs, built_in: &Registry) -> ExitCode {
    let registry = match args.libraries.extend(built_in) {
        Ok(registry) => registry,
        Err(error) => {
            complain(&format!("error: {}", error.chain()));
            return ExitCode::from(WRONG);
        }
    };
    let mut files = Vec::new();
    if let Some(folder) = &args.out {
        files.extend(schema::schemas(&registry).into_iter().map(|(path, text)| (folder.join(path), text)));
    }
    if let Some(folder) = &args.docs {
        files.extend(schema::pages(&registry).into_iter().map(|(path, text)| (folder.join(path), text)));
    }
    if let Some(file) = &args.metrics {
        files.push((file.clone(), pipeline_dashboard::documentation()));
    }
    if files.is_empty() {
        print(&schema::pipeline(&registry));
        return ExitCode::SUCCESS;
    }
    for (path, text) in &files {
        if let Err(error) = write(path, text) {
            complain(&format!("error: `{}` cannot be written: {error}", path.display()));
            return ExitCode::from(FAILED);
        }
    }
    complain(&format!("wrote {} files", files.len()));
    ExitCode::SUCCESS
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, text)
}
