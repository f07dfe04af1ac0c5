"""What only the notebooks need. Import its modules by name: no command may load plots or widgets.

Read host first (where a notebook runs), then plots, score_plots and diagrams, widgets and
threshold_panel, exercises (they check themselves), ablations, baselines, plane and costs; doctor
and run_all are what two commands do.
"""
