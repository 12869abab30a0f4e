"""What crosses process borders: ids, job specifications, steering entries, live requests."""
