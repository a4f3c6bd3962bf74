fn main() -> std::process::ExitCode {
    eyas::cli::main()
}
