//! The program `andon`: parses the command line, runs the command, exits with its code.

fn main() -> std::process::ExitCode {
    andon::cli::main()
}
