defaults {
	verbosity 2
	polling_interval 5
	max_polling_interval 20
	reassign_maps "no"
	path_selector "service-time 0"
	path_grouping_policy "failover"
	uid_attribute "ID_SERIAL"
	prio "const"
	prio_args ""
	features "0"
	path_checker "tur"
	alias_prefix "mpath"
	failback "manual"
	rr_min_io 1000
	rr_min_io_rq 1
	max_fds "max"
	rr_weight "uniform"
	queue_without_daemon "no"
	allow_usb_devices "no"
	flush_on_last_del "unused"
	user_friendly_names "no"
	fast_io_fail_tmo 5
	log_checker_err "always"
	all_tg_pt "no"
	retain_attached_hw_handler "yes"
	detect_prio "yes"
	detect_checker "yes"
	detect_pgpolicy "yes"
	detect_pgpolicy_use_tpg "no"
	force_sync "no"
	strict_timing "no"
	deferred_remove "no"
	delay_watch_checks "no"
	delay_wait_checks "no"
	san_path_err_threshold "no"
	san_path_err_forget_rate "no"
	san_path_err_recovery_time "no"
	marginal_path_err_sample_time "no"
	marginal_path_err_rate_threshold "no"
	marginal_path_err_recheck_gap_time "no"
	marginal_path_double_failed_time "no"
	find_multipaths "strict"
	uxsock_timeout 4000
	retrigger_tries 3
	retrigger_delay 10
	missing_uev_wait_timeout 30
	skip_kpartx "no"
	purge_disconnected "no"
	remove_retries 0
	ghost_delay "no"
	auto_resize "never"
	find_multipaths_timeout -10
	enable_foreign "NONE"
	marginal_pathgroups "off"
	recheck_wwid "no"
}
blacklist {
	devnode "!^(sd[a-z]|dasd[a-z]|nvme[0-9])"
}
blacklist_exceptions {
	property "(SCSI_IDENT_|ID_WWN)"
}
devices {
	device {
		vendor "^NVME"
		product ".*"
		path_grouping_policy "group_by_prio"
		uid_attribute "ID_WWN"
		path_checker "none"
		failback "immediate"
	}
	device {
		vendor "NVME"
		product "HPE Alletra"
		no_path_retry "queue"
	}
	device {
		vendor "NVME"
		product "EMC PowerMax"
		no_path_retry "queue"
	}
	device {
		vendor "NVME"
		product "dellemc-powerstore"
		no_path_retry 3
	}
	device {
		vendor "NVME"
		product "HITACHI SVOS-RF-System"
		no_path_retry "queue"
	}
	device {
		vendor "NVME"
		product "IBM[ ]+2145"
		no_path_retry "queue"
	}
	device {
		vendor "NVME"
		product "FlashSystem"
		no_path_retry "fail"
	}
	device {
		vendor "NVME"
		product "^NetApp ONTAP Controller"
		no_path_retry "queue"
	}
	device {
		vendor "NVME"
		product "Pure Storage FlashArray"
		no_path_retry 10
	}
	device {
		vendor "NVME"
		product "Huawei-XSG1"
		no_path_retry 12
	}
	device {
		vendor "NVME"
		product "InfiniBox"
		no_path_retry "queue"
	}
	device {
		vendor "NVME"
		product "VASTData"
		no_path_retry "queue"
	}
}
