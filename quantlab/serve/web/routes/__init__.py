"""The pages' addresses, one file a subject: each asks the service and shows what a view says."""
