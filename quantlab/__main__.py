from quantlab.cli import run

run()
