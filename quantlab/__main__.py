from quantlab.cli import main

main(prog_name="quantlab")
